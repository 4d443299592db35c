"""A pretended root file system of a box, and every shell of this machine that can run the box's programs in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from odc.adapters.engine.image import box_files

SHELLS = (["dash"], ["busybox", "sh"], ["bash", "--posix"], ["zsh", "--emulate", "sh"])
HERE = [shell for shell in SHELLS if shutil.which(shell[0])]


@dataclass
class Root:
    """A pretended root file system, and a shell to run the box's programs in."""

    path: Path
    shell: list[str]

    @property
    def home(self) -> Path:
        return self.path / "home/dev"

    def put(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def run(self, *command: str, program: str = "odc-box", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.shell, str(box_files() / program), *command],
            env={"PATH": os.environ["PATH"], "ODC_ROOT": str(self.path), "TZ": "UTC", "LC_ALL": "C", **variables},
            capture_output=True,
            text=True,
            timeout=30,
        )

    def look(self) -> dict[str, tuple[str, int]]:
        """Every file with its content and mode."""
        return {
            str(path.relative_to(self.path)): (path.read_text() if path.is_file() else "", path.lstat().st_mode)
            for path in sorted(self.path.rglob("*"))
        }
