"""`odc`, the operator's command: starts, stops, looks after and backs up a cloud.

Commands import what they need when they run: a light installation has `odc` too, and says what it lacks.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from odc import __version__
from odc.cli.ascii import escaped, fit_streams, is_utf8
from odc.cli.completion import completion_command
from odc.cli.wrap import fold
from odc.domain.commands import gpu_dev
from odc.domain.errors import InvalidRequest, InvariantError, NotAllowed, OdcError, ProviderRefused
from odc.domain.status import Status
from odc.entrypoints.process_environment import clean_own, started_with
from odc.operator.command_group import OperatorGroup
from odc.operator.confirmation import as_typed, confirm
from odc.operator.errors import as_ours, failed, missing
from odc.operator.hints import pasteable
from odc.operator.ownership import check_owner
from odc.operator.settings import DEFAULT_FILE, Settings
from odc.operator.settings_file import read_settings

if TYPE_CHECKING:
    from odc.api.client import Client

INTERRUPTED = 130
ENDED = 143
_ignored: list[str] = []
"""Variables that were set when this process began and that it does not use; see `process_environment`."""


@click.group(cls=OperatorGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "file", type=click.Path(dir_okay=False, path_type=Path), help="Settings file.")
@click.version_option(__version__, prog_name="odc")
@click.pass_context
def group(ctx: click.Context, file: Path | None) -> None:
    """Run a cloud that lends this machine's GPUs."""
    if file is None and os.environ.get("ODC_CONFIG"):
        file = Path(os.environ["ODC_CONFIG"])
    ctx.obj = file.absolute() if file else None


def _settings(file: Path | None, **changes: object) -> Settings:
    """The settings of a cloud.

    Raises:
        InvalidRequest: they cannot work, or name the state folder of another cloud.
    """
    settings = read_settings(file, changes)
    check_owner(settings)
    return settings


def _say(text: str) -> None:
    """One line; on a terminal folded between words, so that a command in it can still be pasted."""
    text = pasteable(text)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for line in fold(text, width) if width else [text]:
        click.echo(line)


def _last_time(file: Path | None, typed: dict[str, str | None]) -> dict[str, str | None]:
    """What is typed now, with what was typed for this cloud the last time where neither this nor the file says it."""
    from odc.operator.daemon_state import last_typed

    settings, plain = _settings(file, **typed), Settings()
    last = last_typed(settings.state_folder)
    open_ = {name for name, value in typed.items() if value is None and getattr(settings, name) == getattr(plain, name)}
    return {name: last.get(name) if name in open_ else value for name, value in typed.items()}


def _echo_json(value: object) -> None:
    text = msgspec.json.encode(value).decode()
    click.echo(text if is_utf8(sys.stdout.encoding) else escaped(text))


def _need_root() -> None:
    if os.geteuid() != 0:
        raise NotAllowed("a cloud for all users of the machine is run by root", ("as root", f"sudo {as_typed()}"))


simulate_option = click.option(
    "--simulate",
    metavar="TYPE=NODESxGPUS,…|none",
    callback=lambda _ctx, _param, value: "" if value == "none" else value,
    help="Pretend these nodes instead of the machine's own GPUs.",
)
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
disks_option = click.option("--disks", type=click.Path(path_type=str), help="Folder of the users' disks.")


@group.command()
@simulate_option
@disks_option
@click.pass_obj
def up(file: Path | None, simulate: str | None, disks: str | None) -> None:
    """Start the cloud, now and at every boot; wait until it is ready. What was typed the last time still holds."""
    _need_root()
    from odc.operator import up as starting

    typed = {"simulate": simulate, "disks": str(Path(disks).absolute()) if disks else None}
    changes = _last_time(file, typed)
    remembered = {name: value for name, value in changes.items() if value and typed[name] is None}
    if _ignored:
        _say(f"Not used from your environment: {', '.join(_ignored)}")
    starting.up(_settings(file, **changes), file, changes, remembered, _say)


@group.command()
@click.option("--all", "everything", is_flag=True, help="End every reservation too, and leave nothing running.")
@yes_option
@click.pass_obj
def down(file: Path | None, everything: bool, yes: bool) -> None:
    """Stop the daemon; boxes go on. With --all, end everything; disks are kept.

    Without a terminal, --all needs --yes.
    """
    _need_root()
    from odc.operator import down as stopping

    settings = _settings(file)
    if everything and settings.state_folder.is_dir():
        confirm("this ends every reservation of every user", yes)
    stopping.down(settings, file, everything, _say)


@group.command()
@simulate_option
@disks_option
@click.pass_obj
def serve(file: Path | None, simulate: str | None, disks: str | None) -> None:
    """Run the daemon in the foreground; Ctrl+C stops it, boxes go on."""
    _need_root()
    from odc.entrypoints.daemon import serve as run
    from odc.operator.logs import log_cannot_start, set_up_logs

    set_up_logs()
    try:
        settings = _settings(file, simulate=simulate, disks=disks)
        set_up_logs(file=settings.state_folder / "odc.log")
        run(settings, file=file)
    except OdcError as error:
        if not sys.stderr.isatty():
            log_cannot_start(error)
        raise


@group.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def doctor(file: Path | None, as_json: bool) -> None:
    """Check what the cloud needs: each line is ok or says what to do."""
    from odc.operator.doctor import examine

    if _ignored and not as_json:
        _say(f"{'warn':<5} {'environment':<11} not used: {', '.join(_ignored)}")
    findings = examine(_settings(file, **_last_time(file, {"simulate": None, "disks": None})))
    if as_json:
        _echo_json(findings)
    for finding in () if as_json else findings:
        _say(f"{finding.level:<5} {finding.subject:<11} {finding.text}")
        if finding.hint:
            _say(f"{'':17} {finding.hint}")
    if any(finding.level == "fail" for finding in findings):
        sys.exit(1)


@group.command()
@click.argument("name")
@click.pass_obj
def rename(file: Path | None, name: str) -> None:
    """Give the cloud another NAME. Everything must have ended before: odc down --all."""
    _need_root()
    from odc.operator import rename as renaming

    settings = read_settings(file)
    old = renaming.rename(settings, name)
    _say(f'The cloud "{old}" is called "{name}" now. Its records and disks are as they were.')
    if settings.cloud == name:
        _say("Next: odc up")
    else:
        _say(f'Next: set cloud = "{name}" in {file or DEFAULT_FILE}, then: odc up')


@group.command()
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path))
@click.pass_obj
def backup(file: Path | None, target: Path) -> None:
    """Write all records to a new FILE; the cloud goes on. Disks are not in it."""
    _need_root()
    from odc.operator import backup as backups

    backups.back_up(_settings(file), target.absolute(), _say)


@group.command()
@click.argument("source", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_obj
def restore(file: Path | None, source: Path) -> None:
    """Take the records back from FILE; the daemon must be down. The records of now are kept beside."""
    _need_root()
    from odc.operator import backup as backups

    backups.restore(_settings(file), source.absolute(), _say)


group.add_command(completion_command())


@group.group()
def clock() -> None:
    """The wall clock, when it has jumped."""


@clock.command("accept")
@yes_option
@click.pass_obj
def clock_accept(file: Path | None, yes: bool) -> None:
    """Say that the clock is right; reservations end by it again.

    If some end at once it asks; without a terminal it needs --yes then.
    """
    from odc.api.client import Client

    client = Client(_settings(file).socket)
    try:
        if over := _over_by_the_clock(client):
            names = f"{len(over)} reservation{'s' if len(over) > 1 else ''}: {', '.join(over)}"
            confirm(f"the clock says {datetime.now().astimezone():%Y-%m-%d %H:%M}; this ends {names}", yes)
        answer = client.accept_clock()
    finally:
        client.close()
    click.echo(answer.message)


def _over_by_the_clock(client: Client) -> list[str]:
    """The reservations that end at once when the clock counts, as an operator sees them; nothing for others."""
    if not client.me().admin:
        return []
    now = datetime.now(UTC)
    found = client.reservations(user="all").reservations
    over = [view for view in found if view.state is Status.ACTIVE and view.expires_at and view.expires_at <= now]
    return [f"{view.name or view.id[:8]} of {view.owner}" for view in over]


@group.group()
def user() -> None:
    """Who is recorded as a user, and what becomes of those who leave."""


@user.command("list", short_help="List users, and whose uid somebody else has.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def user_list(file: Path | None, as_json: bool) -> None:
    """List users with their uid, disks, reservations and keys, and who has the uid now."""
    from odc.operator.users import read_users, table

    found = read_users(_settings(file))
    if as_json:
        _echo_json(found)
        return
    for line in table(found.users):
        click.echo(pasteable(line))


@user.command("forget")
@click.argument("who", metavar="USER")
@yes_option
@click.pass_obj
def user_forget(file: Path | None, who: str, yes: bool) -> None:
    """Remove USER's record and keys, and end their reservations. Disks are kept aside.

    USER is a login as it is recorded, or a uid. The login on the machine is not touched.
    """
    from odc.operator.users import forget

    forget(_settings(file), who, yes, _say)


@user.command("move")
@click.argument("who", metavar="USER")
@click.argument("to", metavar="LOGIN")
@yes_option
@click.pass_obj
def user_move(file: Path | None, who: str, to: str, yes: bool) -> None:
    """Give everything that is recorded for USER to LOGIN.

    For a user who has a new login or uid, and to hand the disks of one who has left to somebody else. Keys are kept
    only if it is the same login name, or the same uid.
    """
    from odc.operator.users import move

    move(_settings(file), who, to, yes, _say)


@group.group()
def disk() -> None:
    """The disk storage: who takes what, and deleting older snapshots."""


@disk.command("list", short_help="List disks with what they take.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def disk_list(file: Path | None, as_json: bool) -> None:
    """List disks with what their files and snapshots take, those of the user who takes most first."""
    from odc.operator.disks import overview, read_storage

    view = read_storage(_settings(file))
    for line in [msgspec.json.encode(view).decode()] if as_json else overview(view):
        click.echo(line if as_json else pasteable(line))


@disk.command("prune")
@click.option("--keep", type=click.IntRange(1), default=1, show_default=True, help="Snapshots of each disk to keep.")
@click.option("--user", "owner", default="", metavar="USER", help="Only disks of this user.")
@click.option("--disk", "name", default="", metavar="NAME", help="Only disks of this name.")
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
@yes_option
@click.pass_obj
def disk_prune(file: Path | None, keep: int, owner: str, name: str, dry_run: bool, yes: bool) -> None:
    """Delete older snapshots to free space. The newest verified snapshot of each disk is always kept.

    It shows what goes, and asks; without a terminal it needs --yes.
    """
    from odc.domain.requests import PruneSnapshots
    from odc.operator.disks import prune

    asked = PruneSnapshots(keep=keep, owner=owner, disk=name)
    prune(_settings(file), asked, dry_run, lambda what: confirm(what, yes), _say)


@disk.command("recover", short_help="Give a disk that lost its record a new one.")
@click.argument("name", metavar="NAME|ID", default="")
@click.option("--user", default="", metavar="LOGIN", help="Whose disk it is; the one who had it if left out.")
@click.option("--name", "new_name", default="", metavar="NAME", help="What it is called from now on.")
@click.option("--all", "every", is_flag=True, help="Recover every disk whose owner is known; exit 2 if others remain.")
@click.pass_obj
def disk_recover(file: Path | None, name: str, user: str, new_name: str, every: bool) -> None:
    """Give a disk whose files are there, but not its record, a record again, as after an older backup was restored.

    `gpu-dev status` and `odc doctor` name such disks.
    """
    from odc.domain.requests import RecoverDisk
    from odc.operator.disks import recover

    if not name and not every:
        raise InvalidRequest("say which disk, or --all", ("what there is", gpu_dev("status")))
    recover(_settings(file), RecoverDisk(disk=name, user=user, name=new_name, every=every), _say)


@group.group()
def image() -> None:
    """The image of boxes."""


@image.command("build")
@click.option("--fresh", is_flag=True, help="Make it anew also if it is current, with Debian's packages of today.")
@yes_option
@click.pass_obj
def image_build(file: Path | None, fresh: bool, yes: bool) -> None:
    """Make the base image of boxes, from Debian's packages. About two minutes.

    An image of this name that ODC did not make is replaced only by --yes, or when you say so.
    """
    _need_root()
    from odc.operator.image import build_image

    build_image(_settings(file), fresh, _say, lambda what: confirm(what, yes))


def run(arguments: list[str]) -> int:
    """Run one command; its exit code. Errors go to standard error and never end with 0."""
    try:
        return int(group.main(args=arguments, prog_name="odc", standalone_mode=False) or 0)
    except InvariantError:
        raise
    except OdcError as error:
        return failed(error)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        return failed(as_ours(error))
    except ModuleNotFoundError as error:
        return failed(missing(error))
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except OSError as error:
        return failed(ProviderRefused(f"{error.filename or 'this machine'}: {error.strerror or error}"))


def main() -> None:
    """Run one command and end the process with its exit code."""

    def end(*_: object) -> None:
        raise SystemExit(ENDED)

    _ignored.extend(clean_own(os.environ))

    # What a command has begun is taken back also when it is ended by `kill`; the daemon has its own way.
    signal.signal(signal.SIGTERM, end)
    if "serve" not in sys.argv[1:]:  # its log keeps what it is told
        fit_streams(started_with())
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
