"""ODC as its users have it: a wheel in an environment of its own, in a place that every Unix user may read.

The environment's dependencies are kept between runs; the wheel of this checkout is installed again in each run, by the
first of its processes that needs it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.lane import RUN_LANE, locked

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("ODC_TEST_CACHE", f"/var/cache/odc-tests-{RUN_LANE}"))
BASE_PYTHON = "/usr/bin/python3"


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]} {done.stderr[-2000:]}"


def build_wheel(folder: Path) -> Path:
    """The wheel of this checkout."""
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, REPOSITORY)
    return next(folder.glob("*.whl"))


def installed_bin() -> Path:
    """The folder with `gpu-dev` and `odc` of this checkout, installed with the dependencies of the server."""
    constraints = REPOSITORY / "requirements-dev.txt"
    key = hashlib.sha256(constraints.read_bytes() + (REPOSITORY / "pyproject.toml").read_bytes()).hexdigest()[:16]
    environment = CACHE / f"venv-{key}"
    with locked(f"installed-{RUN_LANE}"):
        run, last = os.environ.get("PYTEST_XDIST_TESTRUNUID", ""), environment / "run"
        if not run or not last.exists() or last.read_text() != run:
            _install(environment, constraints)
            last.write_text(run)
    return environment / "bin"


def _install(environment: Path, constraints: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder))
        if not (environment / "whole").exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            _run(BASE_PYTHON, "-m", "venv", "--clear", environment)
            _run(environment / "bin/pip", "install", "-q", "-c", constraints, f"{wheel}[server,kubernetes]")
            (environment / "whole").touch()
        _run(environment / "bin/pip", "install", "-q", "--no-deps", "--force-reinstall", wheel)
