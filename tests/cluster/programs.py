"""The programs of the test cluster: builds what is missing into a cache outside the clone.

A group is a folder of `tests/cluster/build` with a go.mod file whose `tool` lines name what is built. Its programs are
in a folder of the cache whose name contains a hash of its files and the build flags, so that two checkouts with
different versions share the cache. Only complete folders have that name; what an interrupted build has compiled is in
Go's own build cache, and the next build goes on from there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

SOURCES = Path(__file__).parent / "build"
CACHE = Path(os.environ.get("ODC_CLUSTER_CACHE", "/var/cache/odc-cluster"))
GO = "/usr/local/go/bin"
"""Where Go's own archive is installed; often missing in PATH."""
KUBERNETES = "v1.34.4"
"""As in build/kubernetes/go.mod."""
SNAPSHOT_CRDS = "github.com/kubernetes-csi/external-snapshotter/client/v8"
KEPT_DAYS = 14
"""Programs of other versions are deleted when nobody has used them for so long."""


class BuildError(Exception):
    """A group could not be built; nothing of it is in the cache."""


@dataclass(frozen=True)
class Group:
    """Programs that are built together.

    Attributes:
        name: of the folder in `build`.
        environment: of the build.
        flags: of `go build`.
        variables: of packages, set by the linker.
    """

    name: str
    environment: tuple[tuple[str, str], ...] = (("CGO_ENABLED", "0"),)
    flags: tuple[str, ...] = ("-trimpath", "-buildvcs=false")
    variables: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        """Builds all tools of the group."""
        link = " ".join(["-s -w", *(f"-X {variable}" for variable in self.variables)])
        return ["go", "build", *self.flags, "-ldflags", link]

    @property
    def folder(self) -> Path:
        """Where the programs are once they are built."""
        digest = hashlib.sha256(repr((self.command, self.environment)).encode())
        for path in sorted((SOURCES / self.name).rglob("*")):
            if path.suffix in (".mod", ".sum", ".go"):
                digest.update(path.read_bytes())
        return CACHE / f"{self.name}-{digest.hexdigest()[:16]}"


CSI = Group("csi")
GROUPS = (
    Group("kubernetes", variables=(f"k8s.io/component-base/version.gitVersion={KUBERNETES}",)),
    Group("containerd"),
    # Without seccomp every pod fails: the runtime's default profile needs it.
    Group("runc", environment=(("CGO_ENABLED", "1"),), flags=("-trimpath", "-buildvcs=false", "-tags=seccomp")),
    Group("dns"),
    CSI,
    Group("gpus"),
    Group("disks"),
)


def program_path() -> str:
    """A PATH with all built programs first."""
    return ":".join([*(str(group.folder) for group in GROUPS), "/usr/sbin:/usr/bin:/sbin:/bin"])


def pause_program() -> Path:
    """The static program that keeps a pod's namespaces."""
    digest = hashlib.sha256((SOURCES / "pause.c").read_bytes()).hexdigest()[:16]
    return CACHE / f"pause-{digest}" / "pause"


def missing() -> list[str]:
    """The names of the groups that are not in the cache, in the order in which they are built."""
    groups = [group.name for group in GROUPS if not group.folder.exists()]
    return groups if pause_program().exists() else [*groups, "pause"]


def build_all(say: Callable[[str], None] = lambda line: None) -> None:
    """Build what is missing. Other processes that build the same wait for this one.

    Args:
        say: takes a line for each group that is built.

    Raises:
        BuildError: a group failed; those before it are in the cache.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    for group in GROUPS:
        _build(group.name, group.folder, partial(_build_group, group), say)
    _build("pause", pause_program().parent, _build_pause, say)


def _build(name: str, folder: Path, build: Callable[[Path], None], say: Callable[[str], None]) -> None:
    if folder.exists():
        os.utime(folder)
        return
    with _locked(name):
        if folder.exists():
            return
        say(f"building {name}")
        began = time.monotonic()
        _delete_old(name)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix=".building-") as work:
            target = Path(work, name)
            target.mkdir(mode=0o755)
            build(target)
            target.rename(folder)
        say(f"built {name} in {time.monotonic() - began:.0f} s")


def _build_group(group: Group, target: Path) -> None:
    path = f"{os.environ.get('PATH', os.defpath)}:{GO}"
    if shutil.which("go", path=path) is None:
        raise BuildError(f"cannot build {group.name}: go is not installed")
    source = SOURCES / group.name
    environment = {**os.environ, **dict(group.environment), "GOWORK": "off", "PATH": path}
    _run(group.name, [*group.command, "-o", f"{target}/", "tool"], source, environment)
    if group == CSI:
        downloaded = _run(group.name, ["go", "mod", "download", "-json", SNAPSHOT_CRDS], source, environment)
        definitions = Path(json.loads(downloaded)["Dir"], "config", "crd")
        shutil.copytree(definitions, target / "crd", copy_function=shutil.copyfile)


def _build_pause(target: Path) -> None:
    if shutil.which("cc") is None:
        raise BuildError("cannot build pause: no C compiler (cc) is installed")
    _run("pause", ["cc", "-static", "-Os", "-s", "-o", str(target / "pause"), "pause.c"], SOURCES, dict(os.environ))


def _run(name: str, command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = "\n".join(f"  {line}" for line in done.stderr.strip().splitlines()[-15:])
        raise BuildError(f"cannot build {name}: `{' '.join(command[:3])}` in {folder} failed:\n{last}")
    return done.stdout


@contextmanager
def _locked(name: str) -> Iterator[None]:
    with (CACHE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _delete_old(name: str) -> None:
    for folder in CACHE.glob(f"{name}-*"):
        if time.time() - folder.stat().st_mtime > KEPT_DAYS * 86400:
            shutil.rmtree(folder, ignore_errors=True)
    for folder in CACHE.glob(".building-*"):
        # What a killed build left. A build of another group may run now: none takes a day.
        if time.time() - folder.stat().st_mtime > 86400:
            shutil.rmtree(folder, ignore_errors=True)
