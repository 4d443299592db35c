"""`gpu-dev connect`: the system's own ssh, with the box's pinned key and agent forwarding."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import click

from odc.api.messages import ReservationView
from odc.cli import last_seen, references, screens, ssh_files, times
from odc.cli.context import Session
from odc.cli.options import completed
from odc.domain.errors import InvalidRequest, OdcError, ProviderUnavailable

REFUSED = 255
_COMMAND = "odc.connect.command"


class WithCommand(click.Command):
    """What stands behind `--` is a command for the box and never an ID: a slip in an ID must not run as a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what stands behind the first `--` as it is.

        Raises:
            InvalidRequest: a command stands there without `--`.
        """
        end = args.index("--") if "--" in args else len(args)
        ctx.meta[_COMMAND] = tuple(args[end + 1 :])
        left = super().parse_args(ctx, args[:end])
        if left:
            meant = shlex.join([str(ctx.params["reference"]), "--", *left, *args[end + 1 :]])
            raise InvalidRequest("a command for the box stands behind --", ("for example", f"gpu-dev connect {meant}"))
        return left

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """The line of the help, with the command."""
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND]"]


@click.command(cls=WithCommand, context_settings={"allow_extra_args": True})
@click.argument("reference", metavar="[ID]", required=False, shell_complete=completed)
@click.option("--diagnose", is_flag=True, help="Say which keys the box accepts and which you have.")
@click.pass_context
def connect(ctx: click.Context, reference: str | None, diagnose: bool) -> None:
    """Open a shell in your box, or run COMMAND there. Waits while it is queued, or restarts."""
    from odc.cli import diagnosis, reaching

    session: Session = ctx.obj
    command: tuple[str, ...] = ctx.meta[_COMMAND]
    try:
        view = references.find(session, reference)
    except ProviderUnavailable as error:
        if diagnose:
            raise
        sys.exit(_offline(session, reference, command, error))
    if diagnose:
        session.output.lines(diagnosis.key_lines(session))
        path = ssh_files.config_path(session.folder, view.id)
        if view.state == "active" and path.exists():
            session.output.lines(diagnosis.verdict(view, _ssh_words(session, path, view.name)))
        return
    try:
        view = reaching.reachable(session, reaching.until_up(session, view))
    except KeyboardInterrupt:
        session.output.note(screens.left_text(view))
        sys.exit(130)
    if view.state != "active":
        session.output.note(screens.end_sentence(view, session.now()))
        sys.exit(1)
    ssh = _ssh_words(session, _renewed_file(session, view), view.name)
    code = _run(ssh, view.name, command)
    if code == REFUSED:
        for line in diagnosis.explain(session, view, ssh, bool(command)):
            session.output.note(line)
    sys.exit(code)


def _renewed_file(session: Session, view: ReservationView) -> Path:
    """What ssh must know of the reservation, as a file.

    Raises:
        InvalidRequest: it is not the user's, or the file cannot be written.
    """
    if not references.live_views(session):
        last_seen.renew(session, (view,))
    path = ssh_files.config_path(session.folder, view.id)
    if not path.exists() and not view.mine:
        raise InvalidRequest(f"{screens.title(view)} is {view.owner}'s, not yours")
    if not path.exists():
        hint = ("a home that does", "HOME=$(mktemp -d) gpu-dev connect " + view.name)
        raise InvalidRequest(f"{session.folder} cannot hold what ssh must know of {screens.title(view)}", hint)
    return path


def _ssh_words(session: Session, path: Path, name: str) -> list[str]:
    """The ssh command without the name: the user's own settings hold, but ours come first.

    Settings that ssh refuses must not lock their user out; then ours are used alone.
    """
    words = ["ssh", *ssh_files.options_of(path, name), "-A"]
    try:
        checked = subprocess.run([*words, "-G", name], capture_output=True, text=True, errors="replace")
    except FileNotFoundError as error:
        hint = ("install it", "sudo apt-get install openssh-client")
        raise InvalidRequest("ssh is not installed", hint) from error
    if checked.returncode == 0:
        return words
    wrong = (checked.stderr.strip().splitlines() or ["it does not say why"])[0]
    session.output.note(f"ssh refuses your own settings: {wrong}. Connecting without them.")
    return ["ssh", "-F", str(path), "-A"]


def _run(ssh: list[str], name: str, command: tuple[str, ...]) -> int:
    """Run ssh in the foreground; its exit code."""
    sys.stdout.flush()
    arguments = [*ssh, "-o", "RemoteCommand=none", name, "--", *command] if command else [*ssh, name]
    try:
        return subprocess.call(arguments)
    except KeyboardInterrupt:
        return 130


def _offline(session: Session, reference: str | None, command: tuple[str, ...], error: OdcError) -> int:
    """Connect by the file that is there, while the cloud does not answer."""
    path = ssh_files.find_offline(session.folder, session.endpoint, reference) if reference else _only_file(session)
    if path is None:
        raise error
    name = ssh_files.name_of(path)
    seen = times.clock(last_seen.written_at(session, path), session.now())
    session.output.note(f"The cloud does not answer; connecting to {name} by what was known at {seen}.")
    return _run(_ssh_words(session, path, name), name, command)


def _only_file(session: Session) -> Path | None:
    """The only file that is there, or the one that the user picks; None if there is none, or nobody can be asked."""
    files = ssh_files.files_of(session.folder, session.endpoint)
    if len(files) < 2 or not session.output.asks:
        return files[0] if len(files) == 1 else None
    lines = [(f"{ssh_files.name_of(path)} ({path.name.removesuffix(ssh_files.SUFFIX)})", path) for path in files]
    path: Path = references.chosen(session, "The cloud does not answer. Which of the known ones?", lines)
    return path
