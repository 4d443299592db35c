"""Public keys from GitHub's own pages: `<base>/<login>.keys`, and the login's number from its API."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

from odc.domain.errors import InvalidRequest, NotFound, ProviderUnavailable
from odc.domain.names import check_github_user
from odc.domain.ssh_keys import parse_public_key
from odc.ports.key_source import FetchedKeys

TIMEOUT_S = 5.0
MAX_BYTES = 1 << 20


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Keys come from the address that the operator named, and from no other."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None


class GitHubKeySource:
    """See `odc.ports.key_source`. Keeps nothing: the last good keys stay in the user's record."""

    def __init__(self, base: str, api: str, timeout_s: float = TIMEOUT_S) -> None:
        """Name the addresses.

        Args:
            base: where `<login>.keys` lies.
            api: where `users/<login>` is asked for the login's number.
            timeout_s: how long each answer may take.
        """
        self._base = base.rstrip("/")
        self._api = api.rstrip("/")
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(_NoRedirect)

    def fetch(self, login: str) -> FetchedKeys:
        """The login's keys now."""
        name = check_github_user(login)
        text = self._read(f"{self._base}/{name}.keys", name)
        keys = tuple(key for line in text.splitlines() if (key := _key(line)))
        if not keys:
            hint = ("add one", f"{self._base}/settings/keys")
            raise NotFound(f"{name} has no SSH key on GitHub", hint)
        return FetchedKeys(user_id=self._number(name), keys=keys)

    def _number(self, name: str) -> int:
        """The login's number; 0 while the API does not say."""
        try:
            return int(json.loads(self._read(f"{self._api}/users/{name}", name))["id"])
        except (ProviderUnavailable, NotFound, ValueError, KeyError, TypeError):
            return 0

    def _read(self, address: str, name: str) -> str:
        request = urllib.request.Request(address, headers={"User-Agent": "odc"})  # noqa: S310  # the operator's own
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                return str(answer.read(MAX_BYTES).decode(errors="replace"))
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise NotFound(f"GitHub has no user {name}") from error
            raise ProviderUnavailable(f"GitHub does not give the keys of {name}: status {error.code}") from error
        except (OSError, ValueError) as error:
            raise ProviderUnavailable(f"GitHub cannot be asked for the keys of {name}: {error}") from error


def _key(line: str) -> str | None:
    """A clean key line, or None for what is no key of a known kind."""
    try:
        return parse_public_key(line.strip())
    except InvalidRequest:
        return None
