"""Public keys in memory."""

from __future__ import annotations

import threading

from odc.adapters.memory.fault_injection import FaultInjector
from odc.domain.errors import NotFound
from odc.domain.names import check_github_user
from odc.ports.key_source import FetchedKeys


class MemoryKeySource:
    """See `odc.ports.key_source`; `faults` makes `fetch` fail, and `fetched` counts the questions."""

    def __init__(self) -> None:
        self.faults = FaultInjector()
        self.fetched: list[str] = []
        self._lock = threading.Lock()
        self._logins: dict[str, FetchedKeys] = {}

    def set_keys(self, login: str, *keys: str, user_id: int = 1) -> None:
        """Let the login have these keys; the same login with another number is another person."""
        with self._lock:
            self._logins[login.lower()] = FetchedKeys(user_id=user_id, keys=keys)

    def remove(self, login: str) -> None:
        """Remove the login."""
        with self._lock:
            self._logins.pop(login.lower(), None)

    def fetch(self, login: str, known: tuple[str, ...] = ()) -> FetchedKeys:
        """The login's keys now."""
        name = check_github_user(login)
        with self.faults.around("fetch"), self._lock:
            self.fetched.append(name)
            found = self._logins.get(name.lower())
        if found is None:
            raise NotFound(f"GitHub has no user {name}")
        if not found.keys:
            raise NotFound(f"{name} has no SSH key on GitHub", ("add one", "https://github.com/settings/keys"))
        return FetchedKeys(user_id=0, keys=found.keys) if found.keys == known else found

    def find_login(self, user_id: int) -> str:
        """The login that this number has now; empty if there is none."""
        with self._lock:
            return next((login for login, keys in self._logins.items() if keys.user_id == user_id), "")
