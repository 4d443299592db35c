"""The base image of boxes: made from Debian's packages by one provisioning script, without any registry.

The image carries the digest of what it was made from, so that ODC can say whether it is current.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path

from odc.domain.errors import ProviderRefused, ProviderUnavailable

SUITE = "bookworm"
LABEL = "odc.box.version"
BUILD_LIMIT_S = 1200
_ABOUT = ("build it", "sudo odc image build")


def box_files() -> Path:
    """The folder with what boxes are made from: inside the installed package, or in a checkout beside it.

    Raises:
        ProviderRefused: the installation lacks them.
    """
    package = Path(str(resources.files("odc")))
    for folder in (package / "images" / "box", package.parents[1] / "images" / "box"):
        if (folder / "provision.sh").exists():
            return folder
    raise ProviderRefused("this installation of ODC lacks its box files; install it again")


def box_version() -> str:
    """The digest of everything that goes into the image; what boxes mount instead (`odc-box`) is not part of it."""
    digest = hashlib.sha256(SUITE.encode())
    folder = box_files()
    for path in sorted([folder / "packages", folder / "provision.sh", *(folder / "skel").rglob("*")]):
        if path.is_file():
            digest.update(str(path.relative_to(folder)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class Images:
    """The images of one engine, by its command line."""

    def __init__(self, environment: Mapping[str, str], arguments: tuple[str, ...] = ()) -> None:
        """Name the engine.

        Args:
            environment: of the engine's commands.
            arguments: before every subcommand, such as another storage root.
        """
        self._environment = dict(environment)
        self._arguments = arguments

    def version_of(self, image: str) -> str | None:
        """The digest that the image was made from; empty if it is not ODC's; None if there is no such image."""
        found = self._podman("image", "inspect", "--format", f'{{{{index .Labels "{LABEL}"}}}}', image, check=False)
        if found.returncode != 0:
            return None
        text = found.stdout.decode().strip()
        return "" if text in ("", "<no value>") else text

    def is_current(self, image: str) -> bool:
        """Whether the image is there and made from what this installation has."""
        return self.version_of(image) == box_version()

    def build(self, image: str, say: Callable[[str], None]) -> None:
        """Make the base image and give it this name. Repeatable; an older one keeps running in its boxes.

        Args:
            image: the name.
            say: hears what is being done, a sentence at a time.

        Raises:
            ProviderRefused: a program is missing or a step failed, with its last words.
        """
        if shutil.which("mmdebstrap") is None:
            raise ProviderRefused("mmdebstrap is not installed", ("install it", "sudo apt-get install mmdebstrap"))
        before = self._id_of(image)
        with tempfile.TemporaryDirectory(prefix="odc-image-", dir="/var/tmp") as folder:  # it is large
            tar = Path(folder) / "base.tar"
            say(f"making a Debian {SUITE} file system with the box's packages")
            self._run(_bootstrap(box_files(), tar), environment={"TMPDIR": folder, **_proxies()})
            say("importing it into the engine")
            self._podman(
                "import", "--change", f"LABEL {LABEL}={box_version()}", "--change", "ENV LANG=C.UTF-8", str(tar), image
            )
        if before is not None and before != self._id_of(image):
            # The engine refuses while a box uses it; then it stays, without a name.
            self._podman("image", "rm", before, check=False)

    def _id_of(self, image: str) -> str | None:
        found = self._podman("image", "inspect", "--format", "{{.Id}}", image, check=False)
        return found.stdout.decode().strip() or None

    def _podman(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        return self._run(["podman", *self._arguments, *arguments], check=check)

    def _run(
        self, command: list[str], check: bool = True, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        variables = {**self._environment, **(environment or {})}
        try:
            done = subprocess.run(command, capture_output=True, timeout=BUILD_LIMIT_S, env=variables)
        except FileNotFoundError as error:
            hint = ("install it", f"sudo apt-get install {command[0]}")
            raise ProviderRefused(f"{command[0]} is not installed", hint) from error
        except subprocess.TimeoutExpired as error:
            raise ProviderUnavailable(f"{command[0]} did not end within {BUILD_LIMIT_S} s", _ABOUT) from error
        if check and done.returncode != 0:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
            raise ProviderRefused(f"{command[0]} {command[1]} failed: {' / '.join(last)}")
        return done


def _proxies() -> dict[str, str]:
    """The proxies of the host's apt as variables: they help to build, and no file of the image names them."""
    try:
        dump = subprocess.run(["apt-config", "dump"], capture_output=True, timeout=30, text=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    found = re.findall(r'^Acquire::(https?)::Proxy "(.+)";$', dump, re.MULTILINE | re.IGNORECASE)
    return {f"{scheme.lower()}_proxy": address for scheme, address in found if address != "DIRECT"}


def _bootstrap(inputs: Path, tar: Path) -> list[str]:
    packages = ",".join(inputs.joinpath("packages").read_text().split())
    return [
        "mmdebstrap",
        "--variant=minbase",
        f"--include={packages}",
        '--customize-hook=mkdir -p "$1/tmp/odc-box"',
        f'--customize-hook=cp -a {shlex.quote(str(inputs))}/. "$1/tmp/odc-box/"',
        '--customize-hook=chroot "$1" /bin/sh /tmp/odc-box/provision.sh',
        '--customize-hook=rm -rf "$1/tmp/odc-box"',
        '--customize-hook=: > "$1/etc/hostname"; : > "$1/etc/resolv.conf"',  # the building host's
        SUITE,
        str(tar),
    ]
