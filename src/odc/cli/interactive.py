"""The questions of `gpu-dev reserve`: what is free now or when stands beside each answer.

Esc or Ctrl+C at any question: nothing happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from odc.api.messages import Availability, TypeView
from odc.cli import screens
from odc.cli.context import Session
from odc.domain.errors import InvalidRequest
from odc.domain.limits import check_hours
from odc.domain.names import DEFAULT_DISK, NO_DISK, check_name

if TYPE_CHECKING:
    from odc.cli.reserve import Wish

OTHER = "a new disk …"


def ask_for(session: Session, wish: Wish, yes: bool) -> Wish:
    """Ask for what is open, show the command that would do the same, and ask once more.

    Raises:
        KeyboardInterrupt: the user gave up.
    """
    avail = session.client().avail()
    if not avail.types:
        raise InvalidRequest("this cloud has no nodes", ("look closer", "odc doctor"))
    if wish.gpu_type is None:
        wish = replace(wish, gpu_type=_ask_type(session, avail))
    view = next((view for view in avail.types if view.name == wish.gpu_type), None)
    if view is None:
        raise InvalidRequest(f"this cloud has no {wish.gpu_type}", ("what there is", "gpu-dev avail"))
    if wish.gpus is None:
        wish = replace(wish, gpus=_ask_count(session, avail, view) if view.has_gpus else 0)
    if wish.hours is None:
        wish = replace(wish, hours=_ask_hours())
    if wish.disk is None:
        wish = replace(wish, disk=_ask_disk(session))
    session.output.line(f"The same by one command: {command_of(wish)}")
    if not yes and not _answer(_questionary().confirm("Reserve it?", default=True)):
        raise KeyboardInterrupt
    return wish


def command_of(wish: Wish) -> str:
    """The command that asks for the same."""
    words = ["gpu-dev reserve", f"-t {wish.gpu_type}"]
    words += [f"-g {wish.gpus}"] if wish.gpus else []
    words += [f"-h {wish.hours:g}"] if wish.hours is not None else []
    words += [f"-n {wish.name}"] if wish.name else []
    words += [f"--disk {wish.disk}"] if wish.disk else []
    return " ".join(words)


def _questionary() -> Any:
    import questionary

    return questionary


def _answer(question: Any) -> Any:
    """The answer to a question; Esc gives up as Ctrl+C does."""
    from prompt_toolkit.keys import Keys

    bindings = question.application.key_bindings
    add = getattr(bindings, "add", None)
    if add is not None:
        add(Keys.Escape, eager=True)(lambda event: event.app.exit(exception=KeyboardInterrupt))
    answer = question.unsafe_ask()
    if answer is None:
        raise KeyboardInterrupt
    return answer


def _select(question: str, lines: Sequence[tuple[str, Any]]) -> Any:
    """Let the user choose by arrow keys; each line stands for a value."""
    asked = _questionary()
    choices = [asked.Choice(title=text, value=value) for text, value in lines]
    return _answer(asked.select(question, choices=choices))


def _ask_type(session: Session, avail: Availability) -> str:
    width = max(len(view.name) for view in avail.types)
    lines = [
        (f"{view.name:<{width}}  {view.free} of {view.total} free{screens.simulated(view.simulated)}", view.name)
        for view in avail.types
    ]
    return str(_select("GPU type?", lines))


def _ask_count(session: Session, avail: Availability, view: TypeView) -> int:
    now = session.now()
    lines = [
        (f"{choice.gpus:>2}  {screens.choice_cell(choice, now, avail.now)}", choice.gpus) for choice in view.choices
    ]
    return int(_select("How many GPUs?", lines))


def _is_hours(text: str) -> bool | str:
    try:
        check_hours(float(text))
    except ValueError:
        return "a number, such as 2 or 0.5"
    except InvalidRequest as error:
        return error.message
    return True


def _ask_hours() -> float:
    return float(_answer(_questionary().text("For how many hours?", default="2", validate=_is_hours)))


def _is_disk_name(text: str) -> bool | str:
    try:
        check_name(text, "disk")
    except InvalidRequest as error:
        return error.message
    return True


def _ask_disk(session: Session) -> str:
    disks = {disk.name: disk for disk in session.client().disks().disks}
    lines = [(DEFAULT_DISK + ("" if DEFAULT_DISK in disks else "  (new)"), DEFAULT_DISK)]
    for name, disk in disks.items():
        if name != DEFAULT_DISK:
            lines.append((name + (f"  (in use by {disk.holder})" if disk.holder else ""), name))
    if DEFAULT_DISK in disks and disks[DEFAULT_DISK].holder:
        lines[0] = (f"{DEFAULT_DISK}  (in use by {disks[DEFAULT_DISK].holder})", DEFAULT_DISK)
    lines += [(OTHER, OTHER), ("none: a temporary home, lost at the end", NO_DISK)]
    chosen = str(_select("Which disk is your home?", lines))
    if chosen != OTHER:
        return chosen
    return str(_answer(_questionary().text("Name of the new disk?", validate=_is_disk_name)))
