"""The last check before the framework: refuses requests that the HTTP parser accepts and the framework cannot handle.

Nothing here needs the Host header, since the transport is a unix socket and no answer names an address. Its value is
checked as RFC 9112 requires and then replaced by our own: the framework builds URLs from it and fails on odd ones.
"""

from __future__ import annotations

import logging
import re
import uuid
from typing import Any

import msgspec

from odc.api import views
from odc.domain.access import Principal
from odc.domain.errors import InvalidRequest, InvariantError, OdcError, http_status

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 << 10
"""Bytes. The parser has the same limit, but only for a head that arrives in several parts."""
SHOWN = 80
"""Characters of a path that answers and the log repeat."""
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]{0,5})?")
_OURS = (b"host", b"odc")


def shown(text: str) -> str:
    """Return the client's text, shortened so that it can be repeated in a message."""
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def refusal(scope: Any, error: str, reason: str) -> dict[str, str]:
    """Return the log fields of a refused request: its user and path, and why it was refused.

    Args:
        scope: the request's; the path is taken from here, since a URL would contain the client's Host header.
        error: the kind of error.
        reason: its message.
    """
    caller = scope.get("state", {}).get("principal")
    uid = caller.id.partition(":")[2] if isinstance(caller, Principal) else ""
    return {"uid": uid, "path": shown(str(scope["path"])), "error": error, "reason": reason}


class WellFormed:
    """An ASGI application that passes on well-formed requests, and answers malformed ones, and failures, in JSON."""

    def __init__(self, app: Any) -> None:
        """Prepare.

        Args:
            app: the ASGI application behind it.
        """
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def sent(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            wrong = fault_of(scope)
            if wrong:
                log.info("refused", extra=refusal(scope, "InvalidRequest", wrong))
                await _answer(InvalidRequest(wrong), sent)
                return
            scope["headers"] = [_OURS, *(pair for pair in scope["headers"] if pair[0] != b"host")]
            await self._app(scope, receive, sent)
        except Exception:
            if started:
                raise
            incident = uuid.uuid4().hex[:12]
            log.exception("failed", extra={"path": shown(scope["path"]), "incident": incident})
            text = f"the server failed unexpectedly; its log has incident {incident}"
            await _answer(InvariantError(text), sent)


def fault_of(scope: Any) -> str:
    """Return what is malformed in a request's head; empty if nothing is."""
    version = scope["http_version"]
    if not version.startswith("1."):
        return f"HTTP/{version[:8]} is not supported; use HTTP/1.1"
    size = len(scope["raw_path"]) + len(scope["query_string"]) + sum(len(n) + len(v) for n, v in scope["headers"])
    if size > MAX_HEAD_BYTES:
        return f"the head of the request is larger than {MAX_HEAD_BYTES >> 10} KiB"
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) > 1:
        return "the request has several Host headers"
    if hosts and not _HOST.fullmatch(hosts[0].strip()):
        return "the Host header is not a host name"
    return ""


async def _answer(error: OdcError, send: Any) -> None:
    body = msgspec.json.encode(views.error_view(error))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        # After a malformed request, the beginning of the next one on this connection is unknown.
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": http_status(error), "headers": headers})
    await send({"type": "http.response.body", "body": body})
