"""The program of `odc`: reads the environment, chooses the backend, runs a command, and ends with its exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

from odc.cli.ascii import fit_streams
from odc.entrypoints.process_environment import clean_own, started_with
from odc.operator.backend import Backend
from odc.operator.commands import run
from odc.operator.invocation import Program
from odc.operator.settings import Settings

ENDED = 143
SERVER = ("sqlalchemy", "litestar", "uvicorn")
"""What only the daemon imports, but no command of the operator does without."""


def main() -> None:
    """Run one command and end the process with its exit code."""

    def end(*_: object) -> None:
        raise SystemExit(ENDED)

    ignored = clean_own(os.environ)
    sys.argv[1:1] = _settings_file_words(sys.argv[1:], os.environ.get("ODC_CONFIG", ""))
    # A command that is ended by `kill` must clean up too; the daemon has its own signal handling.
    signal.signal(signal.SIGTERM, end)
    if "serve" not in sys.argv[1:]:
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            signal.signal(signal.SIGHUP, end)
        fit_streams(started_with())  # the daemon's log is not restricted to ASCII
    program = Program(make_backend=_make_backend, find_context=_find_context, serve=_serve, ignored=tuple(ignored))
    sys.exit(run(sys.argv[1:], program))


def _settings_file_words(arguments: list[str], named: str) -> list[str]:
    """Return the option that names the settings file of the environment; none if one was typed.

    As an option it is also in the commands that `odc` shows: sudo drops the variable, and without the option they would
    act on the cloud of the usual file.
    """
    is_typed = any(word == "--config" or word.startswith("--config=") for word in arguments)
    return ["--config", str(Path(named).absolute())] if named and not is_typed else []


def _make_backend(settings: Settings) -> Backend:
    """Return the backend, imported only now: the client-only installation has none, and `odc` reports that when one is
    needed.

    Raises:
        ModuleNotFoundError: it is such an installation.
    """
    _check_installed(SERVER)
    from odc.entrypoints.bootstrap import make_backend

    return make_backend(settings, dict(os.environ))


def _find_context(name: str | None) -> Mapping[str, str]:
    _check_installed(("lightkube",))
    from odc.entrypoints.bootstrap.kubernetes import find_context

    file = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube/config")
    return find_context(Path(file).absolute(), name)


def _check_installed(modules: Iterable[str]) -> None:
    for name in modules:
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _serve(settings: Settings, file: Path | None) -> None:
    from odc.entrypoints.bootstrap import make_backend
    from odc.entrypoints.bootstrap.machine import serve

    serve(settings, make_backend(settings, dict(os.environ)), file)
