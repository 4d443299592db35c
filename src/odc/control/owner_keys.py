"""The owner's SSH keys at the start of a box: fetched again from GitHub if they are not recent."""

from __future__ import annotations

from functools import partial

from msgspec.structs import replace

from odc.control.change_parts import in_parts
from odc.control.context import Policy, Ports
from odc.domain.commands import gpu_dev
from odc.domain.errors import Conflict, NotFound, OdcError, ProviderError, ProviderRefused, RequestError
from odc.domain.paging import all_pages
from odc.domain.records import Change
from odc.domain.reservation import Reservation
from odc.domain.user import User, with_fetched_keys
from odc.ports.history import History


def change_of_keys(history: History, user: User) -> tuple[Change, ...]:
    """Return the changes that write the user's record, and tell the user's reservations that the keys are others now.

    They are one change for as many reservations as most users may have. If there are more of them and only the first
    is written, the others' boxes keep the old keys until the change of keys is repeated.

    Args:
        history: the records.
        user: with the new keys.
    """
    digest = user.keys_digest
    live = all_pages(partial(history.list_live, user.principal))
    told = (Change(reservations=(replace(r, owner_keys=digest),)) for r in live if r.owner_keys != digest)
    return in_parts((Change(users=(user,)), *told))


class OwnerKeys:
    """Finds the keys with which a box is made."""

    def __init__(self, ports: Ports, policy: Policy) -> None:
        self._ports = ports
        self._policy = policy

    def fresh(self, record: Reservation) -> User:
        """Return the owner with recently fetched keys, or with the last good ones if GitHub does not answer.

        Raises:
            ProviderRefused: there is no key at all, so that no login would be possible.
        """
        user = self._ports.store.find_user(record.owner)
        if user is not None and user.github_user and self._stale(user):
            user = self._refetch(user)
        if user is None or not user.keys:
            hint = ("set one", gpu_dev("config set github_user NAME"))
            raise ProviderRefused(f"{record.user} has no SSH key and could not log in to the box", hint)
        return user

    def _stale(self, user: User) -> bool:
        fetched = user.github_fetched_at
        return fetched is None or self._ports.clock.now() - fetched > self._policy.keys_fresh

    def _refetch(self, user: User) -> User:
        try:
            fetched = self._ports.keys.fetch(user.github_user, user.github_keys if user.github_id else ())
        except (ProviderError, RequestError) as error:
            fresh = replace(user, github_fault=error.message + self._renamed(user, error))
        else:
            fresh = with_fetched_keys(user, fetched.user_id, fetched.keys)
            fresh = replace(fresh, github_fetched_at=self._ports.clock.now())
        try:
            for change in change_of_keys(self._ports.history, fresh):
                self._ports.store.commit(change)
        except Conflict:
            # Another writer was first, such as the start of another box. These keys are as good for this box.
            return fresh
        return fresh

    def _renamed(self, user: User, error: OdcError) -> str:
        """Return a sentence about the account's new login, if the login is missing because its owner has renamed the
        account.
        """
        if not isinstance(error, NotFound) or not user.github_id:
            return ""
        login = self._ports.keys.find_login(user.github_id)
        if not login or login.lower() == user.github_user.lower():
            return ""
        return f"; that account is called {login} now"
