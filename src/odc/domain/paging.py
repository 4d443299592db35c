"""Pages of long lists. A page token says where the next page begins; only the list that made it can read it.

A token holds the sort key of the last item of the page, not a number of items: items that are added or deleted between
two pages shift nothing.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import msgspec

from odc.domain.errors import InvalidRequest

PAGE_SIZE = 500
"""Items of one page, unless the caller asks for another number."""

Item = TypeVar("Item")
Key = TypeVar("Key")


class Page(msgspec.Struct, Generic[Item], frozen=True, kw_only=True):
    """A part of a list.

    Attributes:
        items: in the list's order.
        next: token of the next page; empty on the last one.
    """

    items: tuple[Item, ...]
    next: str = ""


def page_token(listing: str, last: object) -> str:
    """Return the token of the page after an item.

    Args:
        listing: identifies the list with its arguments; the token is refused for every other list.
        last: the sort key of the page's last item.
    """
    body = msgspec.json.encode(last)
    return base64.urlsafe_b64encode(_check(listing, body) + body).decode().rstrip("=")


def page_start(listing: str, token: str, kind: type[Key]) -> Key | None:
    """Return the sort key after which the token's page begins; None for an empty token, which is the first page.

    Raises:
        InvalidRequest: the token was not made for this list.
    """
    if not token:
        return None
    try:
        whole = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        check, body = whole[:4], whole[4:]
        if check == _check(listing, body):
            return msgspec.json.decode(body, type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        pass
    raise InvalidRequest("the page token is not of this list; start again without one")


def _check(listing: str, body: bytes) -> bytes:
    """Tells tokens of different lists apart. It is not a secret: a token gives no access."""
    return zlib.crc32(body, zlib.crc32(listing.encode())).to_bytes(4, "big")


def page_of(found: list[Item], limit: int, listing: str, key: Callable[[Item], object]) -> Page[Item]:
    """Return a page from a query for one item more than the page has.

    Args:
        found: at most `limit` + 1 items; one more than `limit` if there is another page.
        limit: items of the page.
        listing: as in `page_token`.
        key: the sort key of an item.
    """
    items = tuple(found[:limit])
    return Page(items=items, next=page_token(listing, key(items[-1])) if len(found) > limit and items else "")


def all_pages(fetch: Callable[[str], Page[Item]]) -> Iterator[Item]:
    """Yield the items of every page.

    Args:
        fetch: returns the page of a token; of the first page for an empty one.
    """
    token = ""
    while True:
        page = fetch(token)
        yield from page.items
        token = page.next
        if not token:
            return
