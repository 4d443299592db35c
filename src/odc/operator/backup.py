"""`odc backup` and `odc restore`: the records in a file. Disks are not in it: they are in their own folder."""

from __future__ import annotations

import os
import shlex
import tempfile
from functools import partial
from pathlib import Path

from odc.control.orphaned_disks import orphan_problems
from odc.domain.commands import gpu_dev, odc
from odc.domain.errors import InvalidRequest, ProviderRefused
from odc.domain.paging import all_pages
from odc.domain.problem_text import wording
from odc.operator.backend import Backend, Say
from odc.operator.daemon_state import only_one
from odc.operator.host_claims import one_command
from odc.operator.settings import Settings


def back_up(settings: Settings, backend: Backend, target: Path, say: Say) -> None:
    """Copy the records to a new file that only root may read, as of one moment. The cloud keeps running.

    Raises:
        ProviderRefused: there are no records, the file exists, or it cannot be made. No partial file is left.
    """
    if not backend.records.exist():
        raise ProviderRefused(f"there are no records in {settings.state_folder}", ("start it", odc("up")))
    exists = ProviderRefused(f"{target} exists; a backup never replaces a file", ("choose another", odc("backup FILE")))
    if target.exists() or target.is_symlink():
        raise exists
    try:
        with tempfile.TemporaryDirectory(prefix=".odc-backup-", dir=target.parent) as folder:
            whole = Path(folder) / "records"
            backend.records.back_up(whole)
            whole.chmod(0o600)
            _flush(whole)
            target.hardlink_to(whole)
    except FileExistsError as error:
        raise exists from error
    except OSError as error:
        raise ProviderRefused(f"{target} cannot be written: {error.strerror or error}") from error
    say(f"All records are in {target}. It has no disks: they are in {settings.disks_folder}")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def restore(settings: Settings, backend: Backend, source: Path, made_by: str, say: Say) -> None:
    """Take the records back from a file.

    Args:
        settings: of the cloud.
        backend: of the cloud.
        source: the backup.
        made_by: the only other cloud whose backup is accepted; empty: none is.
        say: called with each sentence for the operator.

    Raises:
        InvalidRequest: the records are in PostgreSQL, or the backup is of another cloud; nothing was changed.
        ProviderRefused: the daemon runs, or the file is not a backup; nothing was changed.
    """
    if settings.database:
        raise InvalidRequest("these records lie in PostgreSQL", ("use it", "pg_restore"))
    with one_command("restore", settings, say), only_one(settings.state_folder):
        kept = backend.records.restore(source, made_by)
    say(f"The records are those of {source}.")
    if kept:
        say("The ones before are kept. Undo: " + odc(f"restore {shlex.quote(str(kept))}"))
    _say_lost(backend, say)
    say("Boxes that the backup does not know go on and are shown by " + gpu_dev("status") + ". Next: " + odc("up"))


def _say_lost(backend: Backend, say: Say) -> None:
    """Name the disks that the backup does not know, as far as the disk storage is mounted now."""
    with backend.records.open() as store:
        known = {disk.id for disk in all_pages(partial(store.list_disks, None))}
    lost = tuple(label for label in backend.volume_labels() if label.disk_id not in known)
    for problem in orphan_problems(lost):
        say("warning: " + wording(problem).line + "   (once the cloud is up)")
