"""`odc clock`, `odc user` and `odc disk`: commands that ask the daemon."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
import msgspec

from odc.api.hints import message_of
from odc.cli.command_aliases import CLOCK_REPLACEMENTS, DISK_REPLACEMENTS, USER_REPLACEMENTS
from odc.cli.subcommand_group import SubcommandGroup
from odc.domain.commands import gpu_dev, odc
from odc.domain.errors import InvalidRequest
from odc.domain.status import Status
from odc.operator.confirmation import confirm
from odc.operator.hints import typed_here
from odc.operator.invocation import Invocation, echo_json, say, yes_option

if TYPE_CHECKING:
    from odc.api.client import Client


@click.group(cls=SubcommandGroup, program=odc, replacements=CLOCK_REPLACEMENTS)
def clock() -> None:
    """The wall clock, when it has jumped."""


@clock.command("accept")
@yes_option
@click.pass_obj
def clock_accept(call: Invocation, yes: bool) -> None:
    """Say that the clock is right; reservations end by it again.

    If some end at once it asks; without a terminal it needs --yes then.
    """
    from odc.api.client import Client

    client = Client(call.settings().socket)
    try:
        if over := _over_by_the_clock(client):
            names = f"{len(over)} reservation{'s' if len(over) > 1 else ''}: {', '.join(over)}"
            confirm(f"the clock says {datetime.now().astimezone():%Y-%m-%d %H:%M}; this ends {names}", yes)
        answer = client.accept_clock()
    finally:
        client.close()
    say(message_of(answer))


def _over_by_the_clock(client: Client) -> list[str]:
    """Return the names of reservations that end at once if the clock is accepted; empty if the caller is not an
    operator.
    """
    if not client.me().admin:
        return []
    now = datetime.now(UTC)
    found = client.reservations(user="all").reservations
    over = [view for view in found if view.state is Status.ACTIVE and view.expires_at and view.expires_at <= now]
    return [f"{view.name or view.id[:8]} of {view.owner}" for view in over]


@click.group(
    cls=SubcommandGroup,
    program=odc,
    replacements=USER_REPLACEMENTS,
    short_help="List, move and forget recorded users.",
)
def user() -> None:
    """Who is recorded as a user, and what becomes of those who leave."""


@user.command("list", short_help="List users, and whose uid somebody else has.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def user_list(call: Invocation, as_json: bool) -> None:
    """List users with their uid, disks, reservations and keys, and who has the uid now."""
    from odc.operator.users import read_users, table

    found = read_users(call.settings())
    if as_json:
        echo_json(found)
        return
    for line in table(found.users):
        click.echo(typed_here(line))


@user.command("forget")
@click.argument("who", metavar="USER")
@yes_option
@click.pass_obj
def user_forget(call: Invocation, who: str, yes: bool) -> None:
    """Remove USER's record and keys, and end their reservations. Disks are kept aside.

    USER is a login as it is recorded, or a uid. The login on the machine is not touched.
    """
    from odc.operator.users import forget

    forget(call.settings(), who, yes, say)


@user.command("move")
@click.argument("who", metavar="USER")
@click.argument("to", metavar="LOGIN")
@yes_option
@click.pass_obj
def user_move(call: Invocation, who: str, to: str, yes: bool) -> None:
    """Give everything that is recorded for USER to LOGIN.

    For a user who has a new login or uid, and to hand the disks of one who has left to somebody else. Keys are kept
    only if it is the same login name, or the same uid.
    """
    from odc.operator.users import move

    move(call.settings(), who, to, yes, say)


@click.group(
    cls=SubcommandGroup, program=odc, replacements=DISK_REPLACEMENTS, short_help="List, prune and recover disks."
)
def disk() -> None:
    """The disk storage: who takes what, and deleting older snapshots."""


@disk.command("list", short_help="List disks with what they take.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def disk_list(call: Invocation, as_json: bool) -> None:
    """List disks with what their files and snapshots take, those of the user who takes most first."""
    from odc.operator.disks import overview, read_storage

    view = read_storage(call.settings())
    for line in [msgspec.json.encode(view).decode()] if as_json else overview(view):
        click.echo(line if as_json else typed_here(line))


def _kept(_ctx: click.Context, _param: click.Parameter, value: int) -> int:
    if value < 1:
        text = f"--keep must be at least 1, not {value}: the newest verified snapshot of each disk is always kept"
        raise InvalidRequest(text, ("keep that one", odc("disk prune --keep 1")))
    return value


@disk.command("prune")
@click.option(
    "--keep", type=int, default=1, show_default=True, callback=_kept, help="Snapshots of each disk to keep, at least 1."
)
@click.option("--user", "owner", default="", metavar="USER", help="Only disks of this user.")
@click.option("--disk", "name", default="", metavar="NAME", help="Only disks of this name.")
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
@yes_option
@click.pass_obj
def disk_prune(call: Invocation, keep: int, owner: str, name: str, dry_run: bool, yes: bool) -> None:
    """Delete older snapshots to free space. The newest verified snapshot of each disk is always kept.

    It shows what goes, and asks; without a terminal it needs --yes.
    """
    from odc.domain.requests import PruneSnapshots
    from odc.operator.disks import prune

    asked = PruneSnapshots(keep=keep, owner=owner, disk=name)
    prune(call.settings(), asked, dry_run, lambda what: confirm(what, yes), say)


@disk.command("recover", short_help="Give a disk that lost its record a new one.")
@click.argument("name", metavar="NAME|ID", default="")
@click.option("--user", default="", metavar="LOGIN", help="Whose disk it is; the one who had it if left out.")
@click.option("--name", "new_name", default="", metavar="NAME", help="What it is called from now on.")
@click.option("--all", "every", is_flag=True, help="Recover every disk whose owner is known; exit 2 if others remain.")
@click.pass_obj
def disk_recover(call: Invocation, name: str, user: str, new_name: str, every: bool) -> None:
    """Give a disk whose files are there, but not its record, a record again, as after an older backup was restored.

    `gpu-dev status` and `odc doctor` name such disks.
    """
    from odc.domain.requests import RecoverDisk
    from odc.operator.disks import recover

    if not name and not every:
        raise InvalidRequest("say which disk, or --all", ("what there is", gpu_dev("status")))
    recover(call.settings(), RecoverDisk(disk=name, user=user, name=new_name, every=every), say)
