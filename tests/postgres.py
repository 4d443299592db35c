"""A private PostgreSQL on a unix socket, for the tests of one session."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.components import postgresql_programs


@contextmanager
def private_postgres() -> Iterator[str]:
    """The address of a server that is started here and stopped afterwards."""
    programs = postgresql_programs()
    assert programs
    folder = Path(tempfile.mkdtemp(prefix="odc-pg-"))
    folder.chmod(0o755)
    data = folder / "data"
    shutil.chown(folder, "postgres", "postgres")

    def run(*command: str) -> None:
        subprocess.run(["runuser", "-u", "postgres", "--", *command], check=True, capture_output=True, cwd="/")

    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    try:
        run(f"{programs}/initdb", "-D", str(data), "-A", "trust", "-E", "UTF8")
        run(f"{programs}/pg_ctl", "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
        yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
    finally:
        subprocess.run(
            ["runuser", "-u", "postgres", "--", f"{programs}/pg_ctl", "-D", str(data), "-m", "immediate", "stop"],
            capture_output=True,
            cwd="/",
        )
        shutil.rmtree(folder, ignore_errors=True)
