"""Refuses settings that name a file where a folder is needed, before any command uses it."""

from __future__ import annotations

import os
from pathlib import Path

from odc.domain.errors import InvalidRequest
from odc.operator.settings import Settings


def check_folders(settings: Settings) -> None:
    """Check that `state`, `disks` and the folder of `socket` are folders, or can be made. What this user may not see is
    not judged.

    Raises:
        InvalidRequest: one of them cannot be a folder; the message has the setting's name. Nothing was changed.
    """
    state, disks, socket = settings.state_folder, settings.disks_folder, Path(settings.socket)
    for name, value, folder in (("state", state, state), ("disks", disks, disks), ("socket", socket, socket.parent)):
        first = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        if not first.is_dir() and not _is_hidden(first):
            what = "not a folder" if first.exists() else "a link that leads nowhere"
            raise InvalidRequest(
                f'{name} = "{value}" cannot be used: {first} is {what}',
                ("see what is there", f"ls -ld {first}"),
                ("or choose another place", f'{name} = "/…" in the settings'),
            )


def _is_hidden(path: Path) -> bool:
    """Whether this user may not see what is there, as behind a link into a closed folder."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return False
