"""Every error as an answer: JSON with `error`, `message` and `hint`, never a traceback."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from typing import Any

from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi import ResponseSpec
from litestar.types import ExceptionHandlersMap

from odc.api import views
from odc.api.malformed import refusal, shown
from odc.api.messages.requests import ErrorView
from odc.api.rates import retry_after
from odc.api.request_body import MAX_BODY, RequestAborted
from odc.domain.errors import OUTCOMES, InvariantError, OdcError, RateLimited, http_status
from odc.domain.names import cut

log = logging.getLogger(__name__)

TOO_LARGE = 413
NO_SUCH_PATH = 404
NO_SUCH_METHOD = 405
STATUSES = tuple(sorted({status for _, status in OUTCOMES.values()} | {TOO_LARGE, NO_SUCH_METHOD}))
"""Every status that an error may have."""


def documented() -> dict[int, ResponseSpec]:
    """Return the error answers, for the OpenAPI document."""
    return {status: ResponseSpec(ErrorView, generate_examples=False, description="An error.") for status in STATUSES}


def _answer(view: ErrorView, status: int, **headers: str) -> Response[ErrorView]:
    return Response(view, status_code=status, media_type=MediaType.JSON, headers=headers)


def _on_odc_error(request: Request[Any, Any, Any], error: OdcError) -> Response[ErrorView]:
    if isinstance(error, InvariantError):
        return _on_bug(request, error)
    if not isinstance(error, RequestAborted):
        log.info("refused", extra=refusal(request.scope, type(error).__name__, error.message))
    pause = {"Retry-After": str(retry_after(error))} if isinstance(error, RateLimited) else {}
    return _answer(views.error_view(error), http_status(error), **pause)


def _on_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[ErrorView]:
    if error.status_code >= 500:
        return _on_bug(request, error)
    name = "NotFound" if error.status_code == NO_SUCH_PATH else "InvalidRequest"
    return _answer(ErrorView(error=name, message=cut(_words(request, error), views.MOST_WORDS)), error.status_code)


def _path(request: Request[Any, Any, Any]) -> str:
    """Return the path of the request. Not from `request.url`, which contains the client's Host header."""
    return shown(str(request.scope["path"]))


def _words(request: Request[Any, Any, Any], error: HTTPException) -> str:
    path = _path(request)
    if error.status_code == NO_SUCH_PATH:
        return f"there is no {path} here"
    if error.status_code == NO_SUCH_METHOD:
        return f"{request.method} does not apply to {path}"
    if error.status_code == TOO_LARGE:
        return f"the request is larger than {MAX_BODY >> 10} KiB"
    return "; ".join(_fields(error.extra)) or error.detail


def _fields(extra: Any) -> Iterable[str]:
    """Return the fault of each parameter, from the framework's list."""
    for entry in extra if isinstance(extra, list) else ():
        yield f"{entry.get('key', '')}: {entry.get('message', '')}"


def _on_bug(request: Request[Any, Any, Any], error: Exception) -> Response[ErrorView]:
    incident = uuid.uuid4().hex[:12]
    log.error("failed", exc_info=error, extra={"path": _path(request), "incident": incident})
    message = f"the server failed unexpectedly; its log has incident {incident}"
    return _answer(ErrorView(error="InvariantError", message=message), 500)


HANDLERS: ExceptionHandlersMap = {OdcError: _on_odc_error, HTTPException: _on_http_error, Exception: _on_bug}
"""For the application: which error becomes an answer how."""
