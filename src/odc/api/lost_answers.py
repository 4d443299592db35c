"""Requests whose answer was lost: the server may have acted on them. Light to import: `gpu-dev` must start quickly."""

from __future__ import annotations

import http.client

from odc.domain.commands import gpu_dev, odc
from odc.domain.errors import ProviderUnavailable
from odc.domain.requests import (
    AcceptClock,
    Cancel,
    EndAll,
    ForgetUser,
    MoveUser,
    PruneSnapshots,
    RecoverDisk,
    Request,
    Reserve,
    SetGithubUser,
    SetOwnKeys,
)


def is_lost(error: BaseException | None) -> bool:
    """Whether the server may have received the request of which this error lost the answer: it was connected."""
    before = FileNotFoundError | ConnectionRefusedError | PermissionError | BlockingIOError
    return isinstance(error, OSError | http.client.HTTPException) and not isinstance(error, before)


def with_doubt(error: ProviderUnavailable, request: Request) -> ProviderUnavailable:
    """Return the error for a request whose answer was lost, with the command that shows whether the server acted."""
    text = f"{error.message}; it may have accepted the request before"
    return ProviderUnavailable(text, ("check", _check_of(request)), *error.hints)


def _check_of(request: Request) -> str:
    """Return the command that shows whether the server has acted."""
    match request:
        case Reserve():
            return gpu_dev("list")
        case Cancel():
            return gpu_dev(f"show {request.reservation}")
        case SetGithubUser() | SetOwnKeys():
            return gpu_dev("config show")
        case AcceptClock():
            return gpu_dev("status")
        case EndAll():
            return gpu_dev("list --user all")
        case ForgetUser() | MoveUser():
            return odc("user list")
        case PruneSnapshots() | RecoverDisk():
            return odc("disk list")
