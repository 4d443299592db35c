"""The name of a new reservation: a name that ssh already connects to another machine is not used silently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from odc.cli import prompts, ssh_include, ssh_names
from odc.cli.context import Session
from odc.cli.reserve_options import PartialRequest
from odc.domain.errors import InvalidRequest
from odc.domain.names import DEFAULT_DISK, MAX_NAME, NO_DISK, free_name

TEMPORARY = "temporary"


def resolve_name(session: Session, partial: PartialRequest, can_prompt: bool, yes: bool) -> PartialRequest:
    """Return the request with a name that `ssh NAME` can use.

    If the user gave a name that is in use, ask, or refuse without a terminal; with --yes the name is kept and ssh
    reaches the box as `NAME.CONTEXT`. A default name is replaced by a free one, with a note.

    Args:
        session: the command's.
        partial: the complete request.
        can_prompt: whether there is a terminal to ask on.
        yes: keep the name without asking.

    Raises:
        InvalidRequest: the name is in use, and there is no terminal to ask on.
        KeyboardInterrupt: the user gave up.
    """
    name = partial.name or (TEMPORARY if partial.disk == NO_DISK else partial.disk or DEFAULT_DISK)
    used = _used(session, [name]).get(name)
    if not used:
        return partial
    other = _free(session, name)
    full = f"{name}.{ssh_names.context_of(session.endpoint)}"
    if partial.name is None:
        session.output.note(f"{used}; the reservation is named {other}.")
        return replace(partial, name=other)
    if yes:
        session.output.note(f"{used}; ssh reaches the box as {full}.")
        return partial
    if not can_prompt:
        hints = (("another name", replace(partial, name=other).command()), ("that name", partial.command() + " --yes"))
        raise InvalidRequest(used, *hints)
    lines = [(f"Name it {other}", other), (f"Name it {name}; ssh reaches the box as {full}", name)]
    return replace(partial, name=str(prompts.select(f"{used}. Which name?", lines)))


def _used(session: Session, names: Sequence[str]) -> dict[str, str]:
    """Return the names that ssh connects elsewhere, each with a sentence about it."""
    home = session.account_home or session.home
    own = _own_hosts(session, names) if ssh_include.is_included(ssh_include.ssh_file(home)) else {}
    used = {name: f"{name} is a host of yours ({place})" for name, place in own.items()}
    cloud = ssh_names.cloud_of(session.endpoint)
    # The current cloud's reservation gets the name.
    is_current = cloud == ssh_names.cloud_of(session.current_endpoint)
    for name in () if is_current else names:
        if other := ssh_names.elsewhere(session.folder, cloud, name):
            used.setdefault(name, f"you have a reservation {name} in the cloud on {other}")
    return used


def _own_hosts(session: Session, names: Sequence[str]) -> dict[str, str]:
    from odc.cli import ssh_setup

    return ssh_setup.own_hosts(session, names)


def _free(session: Session, name: str) -> str:
    """Return a similar, unused name; if all are used, the first."""
    taken = [name, *(view.name for view in session.client().reservations().reservations)]
    first = free_name(name, taken)
    similar = [first, *(f"{before}-{name}"[:MAX_NAME].rstrip("-") for before in ("box", "gpu"))]
    used = _used(session, similar)
    return next((other for other in similar if other not in used and other not in taken), first)
