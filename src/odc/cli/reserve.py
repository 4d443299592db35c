"""`gpu-dev reserve`: ask, see what happens, connect.

Modules that only the end of the command needs are imported once the request has been sent: loading them then costs no
time, since the daemon is already starting the box. They are those of `reserve_progress.py`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import click

from odc.cli import name_conflicts, prompts
from odc.cli.context import Session
from odc.cli.options import completed, gpu_type_of, gpus_of, hours_of, json_option, pass_session, yes_option
from odc.cli.reserve_options import PartialRequest
from odc.domain.commands import gpu_dev
from odc.domain.errors import InvalidRequest
from odc.domain.names import DEFAULT_DISK, NO_DISK, probable_disk
from odc.domain.requests import Reserve

CANCELLED_NOTE = "Cancelled; nothing was reserved."


@dataclass(frozen=True)
class RunMode:
    """How the command runs: whether it asks questions, accepts its own suggestions, waits, prints JSON."""

    can_prompt: bool
    yes: bool
    wait: bool
    as_json: bool


@click.command(context_settings={"help_option_names": ["--help"]})
@click.option(
    "--gpu-type",
    "-t",
    callback=gpu_type_of,
    metavar="TYPE",
    help="GPU type, such as h100 or cpu-x86; gpu-dev avail shows them.",
)
@click.option("--gpus", "-g", callback=gpus_of, metavar="N", help="Number of GPUs: 1, 2, 4, 8, up to a whole node.")
@click.option("--hours", "-h", callback=hours_of, metavar="H", help="Hours: 0.0833 (5 minutes) to 24.")
@click.option("--name", "-n", metavar="NAME", help="Name of the reservation; by default the disk's.")
@click.option(
    "--disk", metavar="NAME|none", help="Disk to mount as the home; none for a temporary home. By default: default."
)
@click.option("--no-persist", is_flag=True, help="The same as --disk none.")
@click.option(
    "--like",
    metavar="ID|NAME",
    shell_complete=completed,
    help="Copy the options of an earlier reservation; other flags override them.",
)
@click.option("--wait/--no-wait", "wait", default=None, help="Wait until it is ready; by default only on a terminal.")
@yes_option
@json_option
@pass_session
def reserve(  # noqa: PLR0913, PLR0917 - click passes each option as an argument
    session: Session,
    gpu_type: str | None,
    gpus: int | None,
    hours: float | None,
    name: str | None,
    disk: str | None,
    no_persist: bool,
    like: str | None,
    wait: bool | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Reserve GPUs. Asks when options are missing and there is a terminal."""
    if no_persist and disk not in (None, NO_DISK):
        raise InvalidRequest("--no-persist and --disk together; give one of them")
    partial = PartialRequest(gpu_type, gpus, hours, name, NO_DISK if no_persist else disk)
    output = session.output
    mode = RunMode(
        output.can_prompt and not as_json, yes, output.live and not as_json if wait is None else wait, as_json
    )
    try:
        request = _request(session, partial, like, mode)
    except (KeyboardInterrupt, EOFError):
        output.note(CANCELLED_NOTE)
        sys.exit(130)
    try:
        view = session.client().reserve(request)
        from odc.cli.reserve_progress import show_progress
    except KeyboardInterrupt:
        output.note("Interrupted; the reservation may or may not have been made. Check: " + gpu_dev("list"))
        sys.exit(130)
    show_progress(session, view, mode.wait, as_json)


def _request(session: Session, partial: PartialRequest, like: str | None, mode: RunMode) -> Reserve:
    """Return the partial request as a complete one; open fields are asked for before anything is queued."""
    partial.check()
    if like is not None:
        from odc.cli import local_state, reservation_lookup, screens

        live = local_state.sync(session)
        other = reservation_lookup.find(session, like, live)
        if not other.mine:
            alike = PartialRequest(other.gpu_type, other.gpus, other.hours).command()
            raise InvalidRequest(f"{screens.title(other)} is {other.owner}'s, not yours", ("the same GPUs", alike))
        partial = partial.like(other, frozenset(view.name for view in live))
    if mode.can_prompt:
        # Check for a key first, so that the user does not answer every prompt in vain.
        _ensure_key(session, mode)
    partial = _completed(session, partial, mode)
    partial.check()
    if not mode.can_prompt:
        _ensure_key(session, mode)
    partial, means_new = _confirmed_disk(session, partial, mode)
    partial = name_conflicts.resolve_name(session, partial, mode.can_prompt, mode.yes)
    return partial.request(new_disk=means_new)


def _completed(session: Session, partial: PartialRequest, mode: RunMode) -> PartialRequest:
    """Ask for the open fields; without a terminal, raise `InvalidRequest` that names them."""
    if not partial.missing:
        return partial
    from odc.cli import interactive

    avail = session.client().avail()
    partial = interactive.with_known_type(partial, avail)
    if not partial.missing:
        return partial
    if not mode.can_prompt:
        example = ("for example", interactive.example(partial, avail).command())
        raise InvalidRequest(f"missing: {', '.join(partial.missing)}", example, ("available types", gpu_dev("avail")))
    return interactive.prompt_for_missing(session, partial, avail, mode.yes)


def _ensure_key(session: Session, mode: RunMode) -> None:
    """Offer a key of this machine if the user has set none, before anything is queued: the box has no other login."""
    if session.client().me().keys:
        return
    from odc.cli.config import set_key_file, set_keys
    from odc.cli.local_keys import agent_keys, agent_socket, find_public_keys, in_home

    files = find_public_keys(session.home)
    held = agent_keys(agent_socket(session.agent, session.account_home or session.home))
    own: tuple[str, str]
    if files:
        what = in_home(session.home, files[0])
        own = ("this one", gpu_dev(f"config set ssh_key {what}"))
    elif held:
        what = "what your SSH agent holds"
        own = ("your agent's", "ssh-add -L > ~/agent.pub && " + gpu_dev("config set ssh_key ~/agent.pub"))
    else:
        own = ("make one", "ssh-keygen -t ed25519")
    if not (files or held) or not (mode.yes or mode.can_prompt):
        raise InvalidRequest("you have set no SSH key", own, ("GitHub's", gpu_dev("config set github_user NAME")))
    if not mode.yes and not prompts.confirm(f"You have set no SSH key. Use {what}?"):
        raise KeyboardInterrupt
    session.output.note(set_key_file(session, files[0]) if files else f"Your agent's: {set_keys(session, tuple(held))}")


def _confirmed_disk(session: Session, partial: PartialRequest, mode: RunMode) -> tuple[PartialRequest, bool]:
    """Return the request with the disk that the user confirmed, and whether it must be new: a name may be mistyped."""
    name = partial.disk or DEFAULT_DISK
    if mode.yes or name in (NO_DISK, DEFAULT_DISK):
        return partial, mode.yes
    found = session.client().disks()
    names = [disk.name for disk in found.disks]
    near = probable_disk(name, names)
    # A disk without a record is refused by the server, with the command that recovers it.
    if near is None or name in (*names, *(orphan.name for orphan in found.orphaned)):
        return partial, False
    if not mode.can_prompt:
        raise InvalidRequest(
            f"you have no disk {name}; did you mean {near}?",
            ("that one", replace(partial, disk=near).command()),
            ("a new one", partial.command() + " --yes"),
        )
    lines = [(f"Use {near}", near), (f"Create {name}", name)]
    chosen = prompts.select(f"You have no disk {name}. Did you mean {near}?", lines)
    return replace(partial, disk=str(chosen)), chosen == name
