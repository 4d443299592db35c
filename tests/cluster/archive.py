"""Container images from files of the machine, as archives that `ctr images import` reads; no registry, no builder."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path


def write_image(path: Path, name: str, files: Mapping[str, Path], links: Mapping[str, str], command: list[str]) -> None:
    """Write an image of one layer.

    Args:
        path: of the archive.
        name: of the image, with its tag.
        files: the absolute path in the image to the file that is copied there.
        links: the absolute path of a symbolic link to its target.
        command: what its containers run.
    """
    layer = _layer(files, links)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": command, "Env": ["PATH=/bin:/sbin:/usr/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    content = {"config.json": json.dumps(config), "manifest.json": json.dumps(manifest)}
    with tarfile.open(path, "w") as archive:
        for entry, text in content.items():
            _add(archive, entry, text.encode())
        _add(archive, "layer.tar", layer)


def shell_image(path: Path, name: str) -> None:
    """Write an image with the machine's busybox and the libraries that it needs."""
    busybox = shutil.which("busybox")
    assert busybox, "busybox is not installed"
    listed = subprocess.run(["ldd", busybox], capture_output=True, text=True).stdout.split()
    libraries = {word: Path(word) for word in listed if word.startswith("/")}
    commands = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    links = {f"/bin/{command}": "/bin/busybox" for command in commands if command != "busybox"}
    write_image(path, name, {"/bin/busybox": Path(busybox), **libraries}, links, ["/bin/sh"])


def _layer(files: Mapping[str, Path], links: Mapping[str, str]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as layer:
        for folder in _folders([*files, *links, "/tmp/file", "/etc/file", "/proc/file"]):
            entry = tarfile.TarInfo(folder.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "/tmp" else 0o755
            layer.addfile(entry)
        for target, source in files.items():
            _add(layer, target.lstrip("/"), source.read_bytes(), 0o755)
        for place, target in links.items():
            entry = tarfile.TarInfo(place.lstrip("/"))
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            layer.addfile(entry)
    return data.getvalue()


def _folders(paths: Iterable[str]) -> list[str]:
    """Every folder above these paths, outer ones first."""
    found = {str(parent) for path in paths for parent in Path(path).parents if str(parent) != "/"}
    return sorted(found)


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
