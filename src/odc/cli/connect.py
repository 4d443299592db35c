"""`gpu-dev connect`: the system's own ssh, with the box's pinned key and agent forwarding."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from odc.api.messages.reservations import ReservationView
from odc.cli import local_state, reservation_lookup, screens, ssh_files, ssh_names, times
from odc.cli.context import Session
from odc.cli.options import completed
from odc.cli.ssh_newer_options import NEWER
from odc.domain.commands import gpu_dev
from odc.domain.errors import InvalidRequest, OdcError, ProviderUnavailable
from odc.domain.status import Status

if TYPE_CHECKING:
    from odc.cli.diagnosis import Advice, Way

REFUSED = 255
_COMMAND = "odc.connect.command"


class WithCommand(click.Command):
    """Arguments after `--` are a command for the box, never an ID: a mistyped ID must not run as a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments after the first `--` unchanged.

        Raises:
            InvalidRequest: a command was given without `--`.
        """
        end = args.index("--") if "--" in args else len(args)
        ctx.meta[_COMMAND] = tuple(args[end + 1 :])
        left = super().parse_args(ctx, args[:end])
        if left:
            meant = shlex.join([str(ctx.params["reference"]), "--", *left, *args[end + 1 :]])
            raise InvalidRequest(
                "separate the command for the box from the ID by --", ("for example", gpu_dev(f"connect {meant}"))
            )
        return left

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return the usage line of the help, with the command."""
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND]"]


@click.command(cls=WithCommand, context_settings={"allow_extra_args": True})
@click.argument("reference", metavar="[ID]", required=False, shell_complete=completed)
@click.option("--diagnose", is_flag=True, help="Check your keys and ssh settings, and whether ssh can log in.")
@click.pass_context
def connect(ctx: click.Context, reference: str | None, diagnose: bool) -> None:
    """Open a shell in your box, or run COMMAND there. Waits while it is queued, or restarts.

    COMMAND as one argument is a line for the box's shell: 'cd src && make'. Several arguments are a program and its
    arguments, which arrive as they are: bash -c 'a; b'.
    """
    from odc.cli import diagnosis, ssh_readiness

    session: Session = ctx.obj
    command: tuple[str, ...] = ctx.meta[_COMMAND]
    try:
        view = reservation_lookup.find(session, reference, local_state.sync(session))
    except ProviderUnavailable as error:
        if diagnose:
            raise
        sys.exit(_offline(session, reference, command, error))
    if diagnose:
        _diagnose(session, view)
        return
    try:
        view = ssh_readiness.wait_until_reachable(session, ssh_readiness.wait_until_active(session, view))
    except KeyboardInterrupt:
        session.output.note(screens.left_text(view))
        sys.exit(130)
    if view.state is not Status.ACTIVE:
        session.output.note(screens.end_sentence(view, session.now()))
        sys.exit(1)
    with _entry(session, view) as path:
        way, alone = _ways(session, path)
        code = _run(way, command)
        if code == REFUSED:
            advice = diagnosis.explain(session, view, way, alone, bool(command))
            code = _follow(session, advice, alone, command)
    sys.exit(code)


def _follow(session: Session, advice: Advice, alone: Way, command: Sequence[str]) -> int:
    """Explain the failure, and try again if that can help; return the exit code."""
    for line in advice.lines:
        session.output.note(line)
    return _run(alone, command) if advice.without_settings else REFUSED


def _diagnose(session: Session, view: ReservationView) -> None:
    from odc.cli import diagnosis

    if view.state is not Status.ACTIVE or not view.mine:
        session.output.lines(diagnosis.not_there(session, view))
        session.output.lines(diagnosis.key_lines(session))
        return
    session.output.lines(diagnosis.key_lines(session))
    with _entry(session, view) as path:
        session.output.lines(diagnosis.verdict(session, view, *_ways(session, path)))


@contextmanager
def _entry(session: Session, view: ReservationView) -> Iterator[Path]:
    """Yield the reservation's SSH configuration file; it is in a temporary folder if the home is not writable.

    Raises:
        InvalidRequest: it is not the user's, or the file cannot be written.
    """
    if not view.mine:
        raise InvalidRequest(f"{screens.title(view)} is {view.owner}'s, not yours")
    if not local_state.sync(session):
        local_state.update_ssh_files(session, (view,))
    path = ssh_files.config_path(session.folder, view.id)
    if ssh_names.name_of(path) == view.name:
        yield path
        return
    try:
        folder = tempfile.TemporaryDirectory(prefix="gpu-dev-")
    except OSError as error:
        hint = ("another folder for it", "TMPDIR=/dev/shm " + gpu_dev(f"connect {view.name}"))
        text = (
            f"the SSH configuration of {screens.title(view)} can be written neither to {session.folder} "
            "nor to a temporary folder"
        )
        raise InvalidRequest(text, hint) from error
    with folder:
        local_state.write_entry(session, view, Path(folder.name))
        path = ssh_files.config_path(Path(folder.name), view.id)
        if not path.exists():
            hint = ("its address", gpu_dev(f"show {view.id[:8]}"))
            raise InvalidRequest(
                f"ssh cannot be configured for {screens.title(view)}: it has no usable address or key", hint
            )
        yield path


def _ways(session: Session, path: Path) -> tuple[Way, Way]:
    """Return the ssh command with the user's own settings, for options that ours do not set, and the one without them.

    If ssh refuses the user's settings both commands are without them, so that the user is not locked out.

    Raises:
        InvalidRequest: ssh is not installed, or cannot work for this user at all.
    """
    from odc.cli.diagnosis import Way
    from odc.cli.ssh_settings import trace

    if shutil.which("ssh") is None:
        raise InvalidRequest("ssh is not installed", ("install it", "sudo apt-get install openssh-client"))
    way = Way(["ssh", *ssh_files.options_of(path), "-A"], ssh_names.ssh_name(path))
    alone = Way(["ssh", "-F", str(path), "-A"], ssh_names.hosts_in(path)[0])
    seen = trace(way.words, way.name)
    newer = [f"-o{key}={value}" for key, value in NEWER.items() if seen.options.get(key.lower(), value) != value]
    if seen.code <= 0:
        # Only an ssh that shows it knows the option.
        for_command = ("-oRemoteCommand=none",) if "remotecommand" in seen.options else ()
        return Way([*way.words, *newer], way.name, for_command), alone
    wrong = (seen.errors or ["it does not say why"])[0].rstrip(".")
    if wrong.startswith("No user exists for uid"):
        raise _no_account(session, wrong)
    session.output.note(f"ssh refuses your own settings: {wrong}. Connecting without them.")
    return alone, alone


def _no_account(session: Session, wrong: str) -> InvalidRequest:
    """Return the error for a uid without an account, for which ssh does not work."""
    import os

    account = f"dev:x:{os.getuid()}:{os.getgid()}::{shlex.quote(str(session.home))}:/bin/sh"
    hint = ("an account for it", f"echo {account} | sudo tee -a /etc/passwd")
    return InvalidRequest(f"ssh: {wrong}. ssh works only for users that this machine knows", hint)


def _run(way: Way, command: Sequence[str]) -> int:
    """Run ssh in the foreground and return its exit code.

    Args:
        way: how to call ssh.
        command: for the box: one argument is a line for its shell, several arrive there as they are; none for a shell.
    """
    sys.stdout.flush()
    arguments = [*way.words, way.name]
    if command:
        line = command[0] if len(command) == 1 else shlex.join(command)
        # The output of a command must arrive in a file unchanged, so RequestTTY of the user's settings is overridden.
        terminal = [] if sys.stdout is not None and sys.stdout.isatty() else ["-T"]
        arguments = [*way.words, *way.for_command, *terminal, way.name, "--", line]
    try:
        return subprocess.call(arguments)
    except KeyboardInterrupt:
        return 130


def _offline(session: Session, reference: str | None, command: tuple[str, ...], error: OdcError) -> int:
    """Connect with the local SSH configuration file while the ODC daemon does not answer; return the exit code."""
    path = ssh_files.find_offline(session.folder, session.endpoint, reference) if reference else _only_file(session)
    if path is None:
        raise error
    name = ssh_names.name_of(path)
    seen = times.clock(local_state.written_at(session, path), session.now())
    session.output.note(f"The ODC daemon does not answer; connecting to {name} by what was known at {seen}.")
    way, alone = _ways(session, path)
    code = _run(way, command)
    if code == REFUSED:
        from odc.cli import diagnosis

        advice = diagnosis.settings_advice(session, way, alone, diagnosis.tried(way))
        code = _follow(session, advice, alone, command) if advice else code
    return code


def _only_file(session: Session) -> Path | None:
    """Return the only file, or the one that the user picks; None if there is none, or there is no terminal."""
    files = ssh_files.files_of(session.folder, session.endpoint)
    if len(files) < 2 or not session.output.can_prompt:
        return files[0] if len(files) == 1 else None
    lines = [(f"{ssh_names.name_of(path)} ({path.name.removesuffix(ssh_files.SUFFIX)})", path) for path in files]
    path: Path = reservation_lookup.chosen(session, "The ODC daemon does not answer. Which of the known ones?", lines)
    return path
