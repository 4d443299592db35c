"""Request bodies, read strictly and in bounded time. The framework would take "8" for a number, and wait for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from litestar import Request
from litestar.exceptions import InternalServerException

from odc.api.messages.requests import Envelope
from odc.domain.errors import InvalidRequest
from odc.domain.names import cut

MAX_BODY = 256 << 10
"""Bytes. The largest body that makes sense, fifty long keys, is half of it."""
ARRIVAL_S = 30.0
"""How long a request may take from its first to its last byte."""
_ENVELOPE = msgspec.json.Decoder(Envelope)


class RequestAborted(InvalidRequest):
    """The request ended before its body did: there is no client to answer, and the transport has logged it."""


def decode_request(body: bytes) -> Envelope:
    """Return the body as a request, decoded without conversions.

    Raises:
        InvalidRequest: it is none; the message names the field.
    """
    try:
        return _ENVELOPE.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the request is not understood: {cut(str(error), 300)}") from error
    except RecursionError as error:
        raise InvalidRequest("the request is not understood: it is nested too deeply") from error


class StrictRequest(Request[Any, Any, Any]):
    """A request whose JSON is an `Envelope` or nothing."""

    async def body(self) -> bytes:
        """Return the complete body.

        Raises:
            InvalidRequest: it is empty, or did not arrive in time.
            RequestAborted: the client has closed the connection, or sends invalid HTTP.
        """
        try:
            async with asyncio.timeout(ARRIVAL_S):
                body = await super().body()
        except TimeoutError as error:
            raise InvalidRequest(f"the request did not arrive within {ARRIVAL_S:g} s") from error
        except InternalServerException as error:
            raise RequestAborted("the request broke off") from error
        if not body:
            raise InvalidRequest("the request is empty; its body is JSON: id and request")
        return body

    async def json(self) -> Envelope:
        """The body, decoded."""
        return decode_request(await self.body())
