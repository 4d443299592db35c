"""`odc rename`: another name for a cloud of which nothing runs."""

from __future__ import annotations

from msgspec.structs import replace

from odc.domain.commands import odc
from odc.domain.errors import InvalidRequest, ProviderRefused
from odc.domain.names import check_name
from odc.operator.backend import Backend, MakeBackend, Say
from odc.operator.daemon_state import daemon_pid, only_one
from odc.operator.host_claims import one_command
from odc.operator.ownership import note_owner, owner_of
from odc.operator.settings import Settings


def rename(settings: Settings, new: str, make_backend: MakeBackend, say: Say) -> str:
    """Rename the cloud of a state folder. Repeatable; the new name takes effect when one file is replaced.

    Args:
        settings: name the state folder; their `cloud` may be the old or the new name.
        new: the new name.
        make_backend: for the settings with the old name.
        say: called with the reason if it has to wait for another command.

    Returns:
        The old name.

    Raises:
        InvalidRequest: the name is not allowed, or there is no cloud in the folder.
        ProviderRefused: the daemon runs, or boxes or reservations are left; nothing was changed.
    """
    check_name(new, "cloud")
    state = settings.state_folder
    old = owner_of(state)
    if old is None:
        raise InvalidRequest(f"there is no cloud in {state}, so there is nothing to rename")
    with one_command("rename", settings, say):
        if daemon_pid(state) is not None:
            raise ProviderRefused(f'the cloud "{old}" is up; boxes carry its name', _end_it(old))
        with only_one(state):
            _check_nothing_left(make_backend(replace(settings, cloud=old)), old)
            note_owner(state, new)
    return old


def _check_nothing_left(backend: Backend, old: str) -> None:
    """Nothing that carries the old name may be left: no command would find it under the new one."""
    with backend.records.open() as store:
        live = len(store.observe().reservations)
    with backend.boxes() as cluster:
        left = len(cluster.list_boxes()) if cluster is not None else 0
    if live or left:
        what = f"{live} reservations are not ended" if live else f"{left} boxes are left"
        raise ProviderRefused(f'the cloud "{old}" cannot be renamed: {what}', _end_it(old))


def _end_it(old: str) -> tuple[str, str]:
    return ("end it first", f'with cloud = "{old}" in the settings: ' + odc("down --all"))
