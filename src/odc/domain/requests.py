"""The requests of clients. Closed: an unknown kind or field is refused by name.

No message names its sender, which the transport proves. `reservation` is a reference: a whole id, a prefix of at
least 4 hexadecimal digits, or a name among the caller's own.
"""

from __future__ import annotations

import shlex
from typing import Any

import msgspec

from odc.domain.commands import Command, gpu_dev
from odc.domain.names import DEFAULT_DISK
from odc.domain.node import Needs


def reserve_command(
    gpu_type: str | None = None,
    gpus: int | None = None,
    hours: float | None = None,
    name: str | None = None,
    disk: str | None = None,
) -> Command:
    """Return the command that makes this reservation, ready to paste; unknown options are left out."""
    words = ["reserve"]
    words += [f"-t {shlex.quote(gpu_type)}"] if gpu_type is not None else []
    words += [f"-g {gpus}"] if gpus else []
    words += [f"-h {hours:g}"] if hours is not None else []
    words += [f"-n {shlex.quote(name)}"] if name is not None else []
    words += [f"--disk {shlex.quote(disk)}"] if disk is not None else []
    return gpu_dev(" ".join(words))


class Reserve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="reserve"):
    """Claim GPUs for a bounded time.

    Attributes:
        gpu_type: a type of the catalog.
        gpus: on one node: 1, 2, 4, 8, … up to the node's GPUs; 0 for a type without GPUs.
        hours: 0.0833 to 24.
        name: unique among the caller's live ones; None takes the disk's name, with a number if that is taken.
        disk: name of the caller's disk, or `none` for a temporary home.
        new_disk: the caller wants a new disk even if its name is similar to another's.
        needs: what the nodes must have in addition; left out: nothing. A daemon of an older version refuses the field.
    """

    gpu_type: str
    gpus: int
    hours: float
    name: str | None = None
    disk: str = DEFAULT_DISK
    new_disk: bool = False
    needs: Needs | msgspec.UnsetType = msgspec.UNSET

    def command(self, **changes: Any) -> Command:
        """Return the command for the same request with these fields replaced, for hints."""
        asked = msgspec.structs.replace(self, **changes)
        disk = None if asked.disk == DEFAULT_DISK else asked.disk
        return reserve_command(asked.gpu_type, asked.gpus, asked.hours, asked.name, disk)


class Cancel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="cancel"):
    """End a reservation now, in any state."""

    reservation: str


class SetGithubUser(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="set_github_user"
):
    """Take the caller's keys from this GitHub login; an empty one forgets it and its keys."""

    login: str


class SetOwnKeys(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="set_own_keys"
):
    """Replace the caller's own list of public keys, each a line as in `authorized_keys` without options."""

    keys: tuple[str, ...]


class AcceptClock(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="accept_clock"
):
    """For operators: the wall clock is right; go on with timed ends."""


class EndAll(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="end_all"):
    """For operators: end every live reservation of every user."""


class ForgetUser(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="forget_user"
):
    """For operators: take a user's record and keys away and end their reservations; their disks are kept aside.

    `user` is a uid, a login as it is recorded, or a principal.
    """

    user: str


class MoveUser(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="move_user"
):
    """For operators: everything of a recorded user belongs to the login `to` from now on.

    `user` is a uid, a login as it is recorded, or a principal; `to` is a login of the machine, or its uid.
    """

    user: str
    to: str


class PruneSnapshots(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="prune_snapshots"
):
    """For operators: delete older snapshots. The newest verified one of each disk is kept.

    Attributes:
        keep: snapshots of each disk that are kept; at least 1.
        owner: only this user's disks; empty: everyone's.
        disk: only disks of this name; empty: all.
    """

    keep: int = 1
    owner: str = ""
    disk: str = ""


class RecoverDisk(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="recover_disk"
):
    """For operators: create the record of a disk whose files exist, with all its snapshots.

    Attributes:
        disk: its name, or the beginning of its id.
        user: its owner, by login, uid or principal; empty: the previous owner.
        name: its new name; empty: the previous one.
        every: recover all disks whose label names the owner.
    """

    disk: str = ""
    user: str = ""
    name: str = ""
    every: bool = False


Operate = EndAll | ForgetUser | MoveUser | PruneSnapshots | RecoverDisk
Request = Reserve | Cancel | SetGithubUser | SetOwnKeys | AcceptClock | Operate
