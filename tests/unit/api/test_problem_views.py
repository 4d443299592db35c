"""Problems over the wire: data for scripts, a text for kinds that the client does not know."""

from __future__ import annotations

import msgspec
import pytest

from odc.api.messages.cloud import Health
from odc.api.messages.problems import ProblemView
from odc.api.problem_views import problem_views, visible_problems, wordings
from odc.domain.access import Principal
from odc.domain.problem import Problem, ProblemKind
from odc.domain.problem_text import problem_text

GONE = Problem(kind=ProblemKind.NODE_GONE, reservation="ab" * 16, name="secret-plan", user="ada", node="node-1")
DISK = Problem(kind=ProblemKind.DISK_ORPHANED, disk="cd" * 16, name="proj", user="ada")


def test_a_problem_is_sent_with_its_fields_and_its_text() -> None:
    (sent,) = problem_views((GONE,))
    back = msgspec.json.decode(msgspec.json.encode(sent), type=ProblemView)
    assert (back.kind, back.node, back.reservation) == (ProblemKind.NODE_GONE, "node-1", GONE.reservation)
    assert back.text == problem_text(GONE)


@pytest.mark.parametrize(("admin", "named"), [(True, True), (False, False)])
def test_only_operators_see_the_names_of_reservations(admin: bool, named: bool) -> None:
    caller = Principal(id="unix:1", user="ben", admin=admin)
    gone, disk = visible_problems((GONE, DISK), caller)
    assert ("secret-plan" in problem_text(gone)) is named
    assert f"reservation {'secret-plan (abababab)' if named else 'abababab'} of ada" in problem_text(gone)
    assert disk == DISK


def test_a_client_words_what_it_knows_and_repeats_what_it_does_not() -> None:
    known, newer = problem_views((GONE, Problem(kind=ProblemKind("melted"), detail="node-1 has melted")))
    known = msgspec.structs.replace(known, text="another wording")
    newer = msgspec.structs.replace(newer, text="node-1 has melted; cool it: odc cool", parts=())
    assert [one.line for one in wordings((known, newer), ())] == [problem_text(GONE), newer.text]


def test_a_server_of_version_0_1_0_sends_texts_only() -> None:
    old = {"ready": True, "version": "0.1.0", "cloud": "lab", "types": {}, "simulated": False}
    old |= {"storage": "btrfs", "engine": "podman", "problems": ["the clock jumped"]}
    health = msgspec.json.decode(msgspec.json.encode(old), type=Health)
    assert [one.line for one in wordings(health.problem_details, health.problems)] == ["the clock jumped"]
