"""The base image of boxes: made from Debian's packages by one provisioning script, without any registry.

The image is labelled with the digest of its sources, by which ODC finds out whether it is current.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import resources
from pathlib import Path

from odc.adapters.engine.oh_my_zsh import NotFetched, OhMyZsh
from odc.domain.commands import odc
from odc.domain.errors import ProviderRefused, ProviderUnavailable

SUITE = "bookworm"
LABEL = "odc.box.version"
ZSH_LABEL = "odc.box.oh-my-zsh"
INPUTS = ("packages", "provision.sh", "terminfo", "apt-get")
"""Files of the image in addition to `skel`."""
BUILD_LIMIT_S = 1200
QUESTION_LIMIT_S = 60
_ABOUT = ("build it", "sudo " + odc("image build"))
# Source: podman-image-exists(1), podman(1) on exit codes.
_IS_MISSING, _ENGINE_ERROR = 1, 125
# Mounts in there, such as the host's own /dev/shm, are never visible on the host, and end with the first process.
_APART = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "--")


def box_files() -> Path:
    """Return the folder with the image's sources: inside the installed package, or next to it in a checkout.

    Raises:
        ProviderRefused: the installation lacks them.
    """
    package = Path(str(resources.files("odc")))
    for folder in (package / "images" / "box", package.parents[1] / "images" / "box"):
        if (folder / "provision.sh").exists():
            return folder
    raise ProviderRefused("this installation of ODC lacks its box files; install it again")


def box_version() -> str:
    """Return the digest of everything that goes into the image; files that boxes mount (`odc-box`) are not part of
    it.
    """
    digest = hashlib.sha256(SUITE.encode())
    folder = box_files()
    for path in sorted([*(folder / name for name in INPUTS), *(folder / "skel").rglob("*")]):
        if path.is_file():
            digest.update(str(path.relative_to(folder)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class Images:
    """The images of one engine, by its command line. An interrupt ends the program that runs, with all it started."""

    def __init__(self, environment: Mapping[str, str], arguments: tuple[str, ...] = ()) -> None:
        """Name the engine.

        Args:
            environment: of the engine's commands.
            arguments: before every subcommand, such as another storage root.
        """
        self._environment = dict(environment)
        self._arguments = arguments

    def version_of(self, image: str) -> str | None:
        """Return the digest of the image's sources; empty if it is not ODC's; None if there is no such image.

        Raises:
            ProviderUnavailable: the engine does not work, with its last message.
        """
        found = self._podman("image", "inspect", "--format", f'{{{{index .Labels "{LABEL}"}}}}', image, check=False)
        if found.returncode != 0:
            self._check_missing(image, found)
            return None
        text = found.stdout.decode().strip()
        return "" if text in ("", "<no value>") else text

    def oh_my_zsh_of(self, image: str) -> str:
        """Return the commit of oh-my-zsh in the image; empty if it has none, or there is no image."""
        found = self._podman("image", "inspect", "--format", f'{{{{index .Labels "{ZSH_LABEL}"}}}}', image, check=False)
        text = found.stdout.decode().strip()
        return "" if found.returncode != 0 or text == "<no value>" else text

    def _check_missing(self, image: str, found: subprocess.CompletedProcess[bytes]) -> None:
        """Whether it is really not there. Both answers count: an engine without settings ends with 1 too."""
        asked = self._podman("image", "exists", image, check=False)
        if (found.returncode, asked.returncode) != (_ENGINE_ERROR, _IS_MISSING):
            text = f"the container engine does not work: {_last_lines(found, 1)}"
            raise ProviderUnavailable(text, ("look closer", "sudo podman info"))

    def build(
        self, image: str, say: Callable[[str], None], zsh: OhMyZsh | None = None, files: Path | None = None
    ) -> None:
        """Make the base image with this name. Repeatable; running boxes keep an older image.

        Args:
            image: the name.
            say: called with each step, as a sentence.
            zsh: where oh-my-zsh comes from; None: the image gets none. If it cannot be fetched, `say` gets the
                reason, and the image is made without it.
            files: what the image is made from; None: the files of this installation.

        Raises:
            ProviderRefused: a program is missing or a step failed, with its last messages.
        """
        if shutil.which("mmdebstrap") is None:
            raise ProviderRefused("mmdebstrap is not installed", ("install it", "sudo apt-get install mmdebstrap"))
        before = self._id_of(image)
        with tempfile.TemporaryDirectory(prefix="odc-image-", dir="/var/tmp") as folder:  # it is large
            tar = Path(folder) / "base.tar"
            inputs = Path(folder) / "inputs"
            shutil.copytree(files or box_files(), inputs)
            commit = _fetch_oh_my_zsh(zsh, inputs / "oh-my-zsh", {**self._environment, **_proxies()}, say)
            say(f"making a Debian {SUITE} file system with the box's packages")
            command = [*_APART, *_bootstrap(inputs, tar)]
            self._run("mmdebstrap", command, environment={"TMPDIR": folder, **_proxies()})
            say("importing it into the engine")
            changes = [f"LABEL {LABEL}={box_version()}", f"LABEL {ZSH_LABEL}={commit}", "ENV LANG=C.UTF-8"]
            options = [word for change in changes for word in ("--change", change)]
            self._podman("import", *options, str(tar), image)
        if before is not None and before != self._id_of(image):
            # The engine refuses while a box uses it; then it stays, without a name.
            self._podman("image", "rm", before, check=False)

    def _id_of(self, image: str) -> str | None:
        found = self._podman("image", "inspect", "--format", "{{.Id}}", image, check=False)
        return found.stdout.decode().strip() or None

    def _podman(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        limit_s = BUILD_LIMIT_S if check else QUESTION_LIMIT_S
        return self._run(f"podman {arguments[0]}", ["podman", *self._arguments, *arguments], limit_s, check)

    def _run(
        self,
        name: str,
        command: list[str],
        limit_s: float = BUILD_LIMIT_S,
        check: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        try:
            done = _run_whole(command, {**self._environment, **(environment or {})}, limit_s)
        except FileNotFoundError as error:
            hint = ("install it", f"sudo apt-get install {command[0]}")
            raise ProviderRefused(f"{command[0]} is not installed", hint) from error
        except subprocess.TimeoutExpired as error:
            raise ProviderUnavailable(f"{name} did not end within {limit_s:g} s", _ABOUT) from error
        if check and done.returncode != 0:
            raise ProviderRefused(f"{name} failed: {_last_lines(done, 3)}")
        return done


def _fetch_oh_my_zsh(
    zsh: OhMyZsh | None, folder: Path, environment: Mapping[str, str], say: Callable[[str], None]
) -> str:
    """Put oh-my-zsh into the folder; return its commit, or empty text after `say` was called with the reason."""
    if zsh is None or not zsh.address:
        return ""
    say(f"fetching oh-my-zsh {zsh.commit[:12]} from {zsh.address}")
    try:
        zsh.fetch(folder, environment)
    except (NotFetched, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        say(f"oh-my-zsh could not be fetched: {error}")
        say("boxes get a small loader with two themes instead. Later, or with a mirror (oh_my_zsh in the settings):")
        say(odc("image build --fresh"))
        return ""
    return zsh.commit


def _last_lines(done: subprocess.CompletedProcess[bytes], count: int) -> str:
    """The last lines that a program printed."""
    return " / ".join(done.stderr.decode(errors="replace").strip().splitlines()[-count:])


def _run_whole(
    command: list[str], environment: Mapping[str, str], limit_s: float
) -> subprocess.CompletedProcess[bytes]:
    """Run a program in its own session. If it is interrupted or takes too long, kill the whole session and wait."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
        umask=0o022,  # files made inside the image are for all its users
    ) as process:
        try:
            said, told = process.communicate(timeout=limit_s)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()  # until the last process that could write to it has ended
            raise
    return subprocess.CompletedProcess(command, process.returncode, said, told)


def _proxies() -> dict[str, str]:
    """Return the proxies of the host's apt as variables, for the build only: no file of the image contains them."""
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
