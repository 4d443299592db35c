"""`gpu-dev connect`: the system's own ssh, with the box's pinned key and agent forwarding."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from odc.api.messages import ReservationView
from odc.cli import references, screens, ssh_files, times
from odc.cli.context import Session
from odc.cli.local_keys import agent_fingerprints, find_public_keys, in_home, read_key
from odc.cli.waiting import wait_for
from odc.domain.errors import InvalidRequest, OdcError, ProviderUnavailable
from odc.domain.ssh_keys import fingerprint

REFUSED = 255
_COMMAND = "odc.connect.command"


class WithCommand(click.Command):
    """What stands behind `--` is a command for the box and never an ID: a slip in an ID must not run as a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what stands behind the first `--` as it is."""
        end = args.index("--") if "--" in args else len(args)
        ctx.meta[_COMMAND] = tuple(args[end + 1 :])
        return super().parse_args(ctx, args[:end])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """The line of the help, with the command."""
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND]"]


@click.command(cls=WithCommand)
@click.argument("reference", metavar="[ID]", required=False)
@click.option("--diagnose", is_flag=True, help="Say which keys the box accepts and which you have.")
@click.pass_context
def connect(ctx: click.Context, reference: str | None, diagnose: bool) -> None:
    """Open a shell in your box, or run COMMAND there. Waits while the reservation is queued."""
    session: Session = ctx.obj
    command: tuple[str, ...] = ctx.meta[_COMMAND]
    try:
        view = references.find(session, reference)
    except ProviderUnavailable as error:
        sys.exit(_offline(session, reference, command, error))
    view = wait_for(session, view, ("active", "ending", "expired", "cancelled", "failed"))
    if view.state != "active":
        session.output.note(screens.ended_sentence(view, session.now()))
        sys.exit(1)
    ssh_files.sync(session.folder, session.client().reservations().reservations or (view,))
    if diagnose:
        session.output.lines(_diagnosis(session))
        return
    path = ssh_files.config_path(session.folder, view.id)
    if not path.exists():
        raise InvalidRequest(f"{screens.title(view)} is not yours, or cannot be reached by ssh")
    code = _ssh(path, view.name, command)
    if code == REFUSED:
        _explain(session, view, path)
    sys.exit(code)


def _ssh(path: Path, name: str, command: tuple[str, ...]) -> int:
    """Run ssh in the foreground; its exit code."""
    sys.stdout.flush()
    arguments = ["ssh", "-F", str(path), "-A", name]
    if command:
        arguments += ["--", *command]
    try:
        return subprocess.call(arguments)
    except FileNotFoundError as error:
        hint = ("install it", "sudo apt-get install openssh-client")
        raise InvalidRequest("ssh is not installed", hint) from error
    except KeyboardInterrupt:
        return 130


def _offline(session: Session, reference: str | None, command: tuple[str, ...], error: OdcError) -> int:
    """Connect by the file that is there, while the cloud does not answer."""
    files = sorted(session.folder.glob(f"*{ssh_files.SUFFIX}")) if session.folder.is_dir() else []
    path = ssh_files.find_offline(session.folder, reference) if reference else files[0] if len(files) == 1 else None
    if path is None:
        raise error
    name = path.read_text().split()[1]
    seen = times.clock(session.now().fromtimestamp(path.stat().st_mtime, session.now().tzinfo), session.now())
    session.output.note(f"The cloud does not answer; connecting to {name} by what was known at {seen}.")
    return _ssh(path, name, command)


def _explain(session: Session, view: ReservationView, path: Path) -> None:
    """After ssh gave up: if the box refused every key, say which it accepts and which there are."""
    probe = [
        "ssh",
        "-F",
        str(path),
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=5",
        "-o",
        "LogLevel=INFO",
        view.name,
        "true",
    ]
    try:
        done = subprocess.run(probe, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return
    if "Permission denied" in done.stderr:
        for line in _diagnosis(session):
            session.output.note(line)


def _diagnosis(session: Session) -> list[str]:
    me = session.client().me()
    held = agent_fingerprints(session.agent)
    files = {fingerprint(read_key(path)): path for path in find_public_keys(session.home)}
    lines = [f"the box accepts   {key.fingerprint} ({key.comment or key.kind}, {key.source})" for key in me.keys]
    lines += [f"your agent has    {text}" for text in held] or ["your agent has    no key"]
    accepted = {key.fingerprint for key in me.keys}
    if accepted & set(held):
        return [*lines, "Your agent has a key that the box accepts."]
    near = [path for text, path in files.items() if text in accepted]
    if near:
        return [*lines, f"  unlock          ssh-add {in_home(session.home, near[0].with_suffix(''))}"]
    if files:
        return [
            *lines,
            f"  use this one    gpu-dev config set ssh_key {in_home(session.home, next(iter(files.values())))}",
        ]
    return [*lines, "  make a key      ssh-keygen -t ed25519"]
