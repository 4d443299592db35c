"""Problems over the wire: as data, with the server's text for clients that do not know the kind. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import structs

from odc.api.hints import sentence, text_of
from odc.api.messages.problems import ProblemView
from odc.domain.access import Principal
from odc.domain.problem import Problem
from odc.domain.problem_text import Wording, is_known, wording


def visible_problems(problems: Iterable[Problem], caller: Principal) -> tuple[Problem, ...]:
    """Return the problems as the caller may see them: the names of reservations are for operators."""
    if caller.admin:
        return tuple(problems)
    return tuple(structs.replace(one, name="") if one.reservation else one for one in problems)


def problem_views(problems: Iterable[Problem]) -> tuple[ProblemView, ...]:
    """Return the problems as they are sent, in the same order."""
    return tuple(_view(one) for one in problems)


def _view(problem: Problem) -> ProblemView:
    line = wording(problem).line
    return ProblemView(**structs.asdict(problem), text=f"{line}", parts=sentence(line))


def wordings(details: tuple[ProblemView, ...], texts: Iterable[str]) -> tuple[Wording, ...]:
    """Return the problems of an answer for people.

    Args:
        details: as the server sent them.
        texts: the same as sentences; a server of 0.1.0 sends only these.
    """
    if not details:
        return tuple(Wording(text) for text in texts)
    return tuple(wording(one) if is_known(one.kind) else Wording(text_of(one.text, one.parts)) for one in details)
