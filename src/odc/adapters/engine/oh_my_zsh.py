"""oh-my-zsh for the image of boxes: fetched by git from the operator's address at one pinned commit, and verified.

If it cannot be fetched, boxes get the small loader in `images/box/skel`, and the build reports that.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 180
QUICK_S = 60
"""For the commit alone, some 3 MB. A network that drops packets without an answer costs the build no more than this."""
_UNREACHABLE = re.compile(r"resolve host|onnect|timed out|unreachable", re.IGNORECASE)
"""Messages of git for a server that does not answer; all others are refusals by the server."""
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)


class NotFetched(Exception):
    """oh-my-zsh could not be fetched; the message says why, in one line."""


class Unreachable(NotFetched):
    """The server did not answer: asking it in another way would take as long again."""


@dataclass(frozen=True, slots=True)
class OhMyZsh:
    """Where oh-my-zsh comes from.

    Attributes:
        address: of its git repository; empty: it is not wanted.
        commit: 40 hexadecimal digits. The whole content follows from it: git checks every object that it receives
            against its name.
    """

    address: str
    commit: str

    def fetch(self, folder: Path, environment: Mapping[str, str]) -> None:
        """Put the commit's files into a folder.

        Args:
            folder: made here; it must not exist.
            environment: of the git commands: that of the process, and proxies.

        Raises:
            NotFetched: git is missing, the address does not answer, or it returned a different commit. The folder may
                exist, incomplete.
        """
        if shutil.which("git") is None:
            raise NotFetched("git is not installed (sudo apt-get install git)")
        if not _COMMIT.fullmatch(self.commit):
            raise NotFetched(f"{self.commit!r} is not a commit")
        git = _Git(folder, environment)
        git.run("init", "--quiet", "--bare", str(folder / ".git"))
        self._fetch_commit(git)
        found = git.run("rev-parse", "--verify", f"{self.commit}^{{commit}}")
        if found != self.commit:
            raise NotFetched(f"{self.address} gave {found or 'nothing'} for {self.commit}")
        git.run("fsck", "--connectivity-only", self.commit)
        git.run("--work-tree", str(folder), "checkout", "--quiet", "--force", self.commit, "--", ".")
        shutil.rmtree(folder / ".git")
        if not (folder / "oh-my-zsh.sh").is_file():
            raise NotFetched(f"commit {self.commit[:12]} of {self.address} has no oh-my-zsh.sh")

    def _fetch_commit(self, git: _Git) -> None:
        """Fetch the commit alone, or everything from a server that gives only branches."""
        options = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head")
        try:
            git.run(*options, "--depth", "1", "--", self.address, self.commit, limit_s=QUICK_S)
        except Unreachable:
            raise
        except NotFetched:
            git.run(*options, "--", self.address, "+refs/heads/*:refs/remotes/origin/*")


class _Git:
    """git with a repository of its own, without anybody's configuration, questions or hooks."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {
            **environment,
            "GIT_DIR": str(folder / ".git"),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "true",
            "GIT_CONFIG_PARAMETERS": "'transfer.fsckObjects=false' 'http.lowSpeedLimit=1000' 'http.lowSpeedTime=20'",
            "LC_ALL": "C",
        }

    def run(self, *arguments: str, limit_s: float = LIMIT_S) -> str:
        """The first line that git printed."""
        command = ["git", "-c", "safe.directory=*", "-c", "core.hooksPath=/dev/null", *arguments]
        self._folder.mkdir(exist_ok=True)
        try:
            done = subprocess.run(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=limit_s,
                text=True,
            )
        except subprocess.TimeoutExpired as error:
            raise Unreachable(f"git {arguments[0]} did not end within {limit_s:g} s") from error
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            kind = Unreachable if lines and _UNREACHABLE.search(lines[0]) else NotFetched
            raise kind(lines[0].removeprefix("fatal: ") if lines else f"git ended with {done.returncode}")
        return done.stdout.strip().partition("\n")[0]
