"""Images that cannot be boxes, as small as they can be: made without any registry, and removed afterwards."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHELL = Path("/bin/sh")
MACHINE = slice(18, 20)
"""Where an ELF file says for which processor it is (Source: elf(5), `e_machine`)."""
VAX = (75).to_bytes(2, "little")


@contextmanager
def tiny_image(name: str, kind: str) -> Iterator[str]:
    """An image with nothing in it but a shell.

    Args:
        name: of the image; no other run's.
        kind: `no sshd`, the shell runs; `other processor`, it is a program for another one; `no shell`, nothing at all.
    """
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        _add(tar, "etc/os-release", b"NAME=tiny\n")
        if kind != "no shell":
            for path in (SHELL, *_libraries(SHELL)):
                content = path.read_bytes()
                if kind == "other processor" and path == SHELL:
                    content = content[: MACHINE.start] + VAX + content[MACHINE.stop :]
                _add(tar, str(path).lstrip("/"), content)
    subprocess.run(["podman", "import", "-q", "-", name], input=made.getvalue(), check=True, capture_output=True)
    try:
        yield name
    finally:
        subprocess.run(["podman", "image", "rm", "-f", name], check=True, capture_output=True)


def _libraries(program: Path) -> list[Path]:
    """What the program is linked with; nothing if it is linked statically."""
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True)
    return [Path(path) for path in re.findall(r"/\S+", done.stdout)]


def _add(tar: tarfile.TarFile, path: str, content: bytes) -> None:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = len(content), 0o755
    tar.addfile(entry, io.BytesIO(content))
