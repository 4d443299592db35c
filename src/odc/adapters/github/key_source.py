"""Public keys from GitHub's own pages: `<base>/<login>.keys`, and the login's number from its API."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from odc.domain.errors import InvalidRequest, NotFound, ProviderUnavailable
from odc.domain.names import check_github_user
from odc.domain.ssh_keys import parse_public_key
from odc.ports.key_source import FetchedKeys

TIMEOUT_S = 5.0
MAX_BYTES = 1 << 20
MOST_KEYS = 200
"""Of one login: they are in the user's record and in each of the user's boxes."""
_PIECE = 1 << 16
_NOT_NOW = frozenset({403, 429})


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Keys come from the address that the operator named, and from no other."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None


class GitHubKeySource:
    """See `odc.ports.key_source`. Keeps nothing: the last good keys stay in the user's record."""

    def __init__(self, base: str, api: str, timeout_s: float = TIMEOUT_S) -> None:
        """Name the addresses.

        Args:
            base: address of the folder with `<login>.keys`.
            api: where `users/<login>` is asked for the login's number.
            timeout_s: how long each of the two answers may take, from first to last byte.
        """
        self._base = base.rstrip("/")
        self._api = api.rstrip("/")
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(_NoRedirect)

    def fetch(self, login: str, known: tuple[str, ...] = ()) -> FetchedKeys:
        """Return the login's current keys."""
        name = check_github_user(login)
        text = self._read(f"{self._base}/{name}.keys", name)
        if text.lstrip().startswith("<"):
            # A page, such as a network's login portal, is not a statement about the user's keys.
            raise ProviderUnavailable(f"the answer of {self._base} is not a list of keys of {name}")
        keys = tuple(dict.fromkeys(key for line in text.splitlines() if (key := _key(line))))
        if not keys:
            what = "no SSH key of a kind that OpenSSH takes" if text.strip() else "no SSH keys"
            hint = ("add one", f"{self._base}/settings/keys")
            raise NotFound(f"{name} has {what} on GitHub: add one at {self._base}/settings/keys", hint)
        if len(keys) > MOST_KEYS:
            raise InvalidRequest(f"{name} has {len(keys)} keys on GitHub; at most {MOST_KEYS} are accepted")
        return FetchedKeys(user_id=0 if keys == known else self._number(name), keys=keys)

    def find_login(self, user_id: int) -> str:
        """Return the current login of this number; empty if GitHub does not report it."""
        try:
            login = json.loads(self._read(f"{self._api}/user/{int(user_id)}", str(user_id)))["login"]
            return check_github_user(login) if isinstance(login, str) else ""
        except (ProviderUnavailable, NotFound, InvalidRequest, ValueError, KeyError, TypeError):
            return ""

    def _number(self, name: str) -> int:
        """Return the login's number; 0 if the API does not report it."""
        try:
            number = json.loads(self._read(f"{self._api}/users/{name}", name))["id"]
        except (ProviderUnavailable, NotFound, ValueError, KeyError, TypeError):
            return 0
        return number if isinstance(number, int) and number > 0 else 0

    def _read(self, address: str, name: str) -> str:
        request = urllib.request.Request(address, headers={"User-Agent": "odc"})  # noqa: S310  # the operator's own
        end = time.monotonic() + self._timeout_s
        with _errors(name), self._opener.open(request, timeout=self._timeout_s) as answer:
            content = bytearray()
            while piece := answer.read1(_PIECE):
                content += piece
                if len(content) > MAX_BYTES:
                    raise ProviderUnavailable(f"GitHub's answer about {name} is longer than {MAX_BYTES} bytes")
                if time.monotonic() > end:
                    raise ProviderUnavailable(f"GitHub's answer about {name} took longer than {self._timeout_s:g} s")
            missing = answer.length
        if missing:
            raise ProviderUnavailable(f"GitHub's answer about {name} broke off")
        return content.decode(errors="replace")


@contextmanager
def _errors(name: str) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            raise NotFound(f"GitHub has no user {name}") from error
        if error.code in _NOT_NOW:
            raise ProviderUnavailable(f"GitHub's rate limit is used up; the keys of {name} were not read") from error
        raise ProviderUnavailable(f"GitHub does not give the keys of {name}: status {error.code}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ProviderUnavailable(f"GitHub cannot be asked about {name}: {why_not(error)}") from error


def why_not(error: BaseException) -> str:
    """Return why an address could not be reached, in the system's words without its error numbers."""
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason or type(error).__name__)


def _key(line: str) -> str | None:
    """A clean key line without its comment; None if it is not a key of a known kind."""
    try:
        return " ".join(parse_public_key(line.strip()).split()[:2])
    except InvalidRequest:
        return None
