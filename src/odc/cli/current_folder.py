"""The error of a command whose current folder has been deleted, so that no relative path leads anywhere."""

from __future__ import annotations

from pathlib import Path

from odc.domain.errors import ProviderRefused


def refused_without_folder(error: OSError) -> ProviderRefused | None:
    """Return the error to show, if this one means that the current folder does not exist any more; else None."""
    if error.filename:
        return None
    try:
        Path.cwd()
    except OSError:
        text = "the current folder does not exist any more, and a path was given relative to it"
        return ProviderRefused(text, ("give whole paths, or go to another folder", "cd /"))
    return None
