"""Records as clients see them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from tests.builders import NOW, a_node, a_reservation

from odc.api.messages.reservations import GivenUpView, ReservationView
from odc.api.views import reservation_view
from odc.control.context import ClusterStatus
from odc.control.queries import ReservationDetail
from odc.domain.access import Principal
from odc.domain.lifecycle import EndRequested, apply, with_fault
from odc.domain.reservation import EndReason, GivenUp, Place, Reservation, State
from odc.domain.status import EndCause, TroubleKind

OWNER = Principal(id="unix:1000", user="octocat")


def seen_by_owner(record: Reservation) -> ReservationView:
    return reservation_view(ReservationDetail(record), OWNER, ClusterStatus())


def as_stored_by_0_1_0(record: Reservation, **fields: Any) -> Reservation:
    """The record without the fields that 0.1.0 did not write."""
    stored = msgspec.to_builtins(record)
    del stored["end_cause"], stored["ended_by"], stored["given_up"]
    return msgspec.convert(stored | fields, Reservation)


def test_a_reservation_that_an_operator_ended_names_the_operator() -> None:
    asked = EndRequested(at=NOW, why=EndReason.CANCELLED, cause=EndCause.CANCELLED, by="root")
    view = seen_by_owner(apply(a_reservation(), asked))
    assert (view.cause, view.ended_by, view.reason) == (EndCause.CANCELLED, "root", "by root")


def test_the_kind_of_trouble_is_told_with_its_details() -> None:
    faulty = with_fault(a_reservation(), "the engine does not answer", NOW)
    view = seen_by_owner(faulty)
    assert (view.trouble_kind, view.trouble) == (TroubleKind.RETRYING, "the engine does not answer")
    view = seen_by_owner(replace(faulty, unreachable="a firewall rule is gone"))
    assert (view.trouble_kind, view.trouble) == (TroubleKind.UNREACHABLE, "unreachable: a firewall rule is gone")
    stored = msgspec.to_builtins(faulty)
    del stored["fault"]["kind"]
    assert seen_by_owner(msgspec.convert(stored, Reservation)).trouble_kind is TroubleKind.OTHER
    assert seen_by_owner(a_reservation()).trouble_kind is None


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"state": State.ENDED, "ended_why": "failed", "end_detail": "its box was removed"}, EndCause.OTHER),
        ({"state": State.QUEUED, "end_detail": "its node was lost"}, EndCause.OTHER),
        ({"state": State.ACTIVE}, None),
    ],
)
def test_a_sentence_that_an_earlier_version_stored_is_kept_as_the_reason(
    fields: dict[str, Any], cause: EndCause | None
) -> None:
    view = seen_by_owner(as_stored_by_0_1_0(a_reservation(), **fields))
    assert (view.cause, view.ended_by, view.given_up) == (cause, "", None)
    assert view.reason == fields.get("end_detail", "")


def test_why_a_start_was_given_up_is_sent_in_numbers_and_as_a_sentence() -> None:
    gone = GivenUp(phase="ssh", limit_s=120, last_attempt=3)
    view = seen_by_owner(a_reservation(end_detail="no SSH server answers", given_up=gone))
    assert view.given_up == GivenUpView(phase="ssh", limit_s=120, last_attempt=3)
    assert view.detail == "no SSH server answers"
    # What clients show that know no such numbers.
    assert view.reason == "ssh took longer than 120 s: no SSH server answers (attempt 3, the last)"


def test_a_box_whose_simulated_type_has_left_the_cloud_is_still_shown_as_simulated() -> None:
    record = replace(a_reservation(), state=State.ACTIVE, places=(Place(node="node-1", simulated=True),))
    assert seen_by_owner(record).simulated
    assert not seen_by_owner(replace(record, places=(Place(node="node-1"),))).simulated


def test_an_end_whose_box_is_gone_lends_no_gpus() -> None:
    node = a_node()
    place = Place(node=node.name, gpus=node.gpus[:2])
    seen = ClusterStatus(nodes=(node,))
    shown = {}
    for gone in (False, True):
        record = a_reservation(state=State.ENDING, attempt=1, places=(place,), boxes_gone=gone)
        (box,) = reservation_view(ReservationDetail(record), OWNER, seen).boxes
        shown[gone] = (box.node, box.gpus, box.gpu_indexes)
    assert shown == {False: (node.name, node.gpus[:2], (0, 1)), True: (node.name, (), ())}
