"""The life of a reservation is its table, and nothing else."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.builders import NOW, a_reservation

from odc.domain import lifecycle
from odc.domain.errors import InvariantError
from odc.domain.lifecycle import TRANSITIONS, BoxesReady, CleanedUp, EndRequested, Placed, Transition, Trigger, apply
from odc.domain.reservation import EndReason, Place, Reservation, SlotRecord, State

EVENTS: tuple[type, ...] = get_args(Trigger)
LATER = NOW + timedelta(minutes=1)
PLACES = (Place(node="node-1", gpus=("gpu-0",), ports={"ssh": 30000}, uid="u"),)


def an_event_of(kind: type, why: EndReason | None = EndReason.CANCELLED) -> Trigger:
    if kind is Placed:
        return Placed(at=LATER, slot=SlotRecord(start=NOW, nodes=("node-1",)), ready_by=LATER, places=PLACES)
    if kind is BoxesReady:
        return BoxesReady(at=LATER, places=PLACES)
    return EndRequested(at=LATER, why=why) if kind is EndRequested else CleanedUp(at=LATER)


def in_state(state: State, **changes: Any) -> Reservation:
    record = a_reservation(attempt=1, places=PLACES, placed_at=NOW)
    return replace(record, state=state, **changes)


@pytest.mark.parametrize(("state", "kind"), list(itertools.product(State, EVENTS)))
def test_only_what_is_in_the_table_happens_and_anything_else_changes_nothing(state: State, kind: type) -> None:
    record = in_state(state)
    expected = TRANSITIONS.get((state, kind))
    if expected is None:
        with pytest.raises(InvariantError, match=f"{kind.__name__} is illegal"):
            apply(record, an_event_of(kind))
    else:
        results = {
            apply(replace(record, requeue=requeue), an_event_of(kind, why)).state
            for requeue in (False, True)
            for why in (EndReason.FAILED, None)
            if not (state is State.QUEUED and why is None)
        }
        assert results == {transition.target for transition in expected}
    assert record == in_state(state, id=record.id, name=record.name)


@pytest.mark.parametrize("rows", TRANSITIONS.values())
@pytest.mark.parametrize("requeue", [False, True])
def test_one_transition_is_taken_and_the_table_alone_says_where_to(rows: tuple[Transition, ...], requeue: bool) -> None:
    assert len([row for row in rows if row.requeue in (None, requeue)]) == 1
    assert len({row.target for row in rows}) == len(rows)


def test_every_state_reaches_the_end() -> None:
    ends = {State.ENDED}
    while True:
        more = {state for (state, _), rows in TRANSITIONS.items() if ends & {row.target for row in rows}} | ends
        if more == ends:
            break
        ends = more
    assert ends == set(State)


def test_nothing_leaves_the_end() -> None:
    assert [state for state, _ in TRANSITIONS if state is State.ENDED] == []


def test_an_end_may_be_asked_for_in_every_state_but_the_end() -> None:
    assert {state for state, kind in TRANSITIONS if kind is EndRequested} == set(State) - {State.ENDED}


@given(st.lists(st.sampled_from([*EVENTS, "requeue"]), max_size=30))
def test_whatever_comes_in_whatever_order_the_record_stays_sound(kinds: list[object]) -> None:
    record = a_reservation()
    attempts = [record.attempt]
    for kind in kinds:
        event = an_event_of(EndRequested, None) if kind == "requeue" else an_event_of(kind)  # type: ignore[arg-type]
        if record.state is State.QUEUED and kind == "requeue":
            continue
        try:
            record = apply(record, event)
        except InvariantError:
            continue
        attempts.append(record.attempt)
        assert (record.state is State.ENDED) == (record.ended_at is not None)
        assert (record.state is State.ACTIVE) <= (record.expires_at == LATER + record.spec.length)
        assert not (record.requeue and record.ended_why)
        assert record.requeue <= (record.state is State.ENDING)
        assert (record.state is State.ENDED) <= (record.ended_why is not None)
        assert (record.state is State.QUEUED) <= (record.places == () and not record.occupies)
    assert attempts == sorted(attempts)


def test_the_clock_starts_when_ssh_answers() -> None:
    active = apply(in_state(State.PREPARING), an_event_of(BoxesReady))
    assert active.active_at == LATER
    assert active.expires_at == LATER + timedelta(hours=1)


def test_what_goes_back_to_the_queue_keeps_its_place_in_line_and_its_request() -> None:
    record = in_state(State.ACTIVE, order=7, slot=SlotRecord(start=NOW, nodes=("node-1",)), applied_config="x")
    queued = apply(apply(record, EndRequested(at=NOW, why=None, detail="lost")), CleanedUp(at=LATER))
    assert (queued.state, queued.order, queued.spec, queued.attempt) == (State.QUEUED, 7, record.spec, 1)
    assert (queued.places, queued.slot, queued.expires_at) == ((), None, None)
    again = apply(queued, an_event_of(Placed))
    assert (again.attempt, again.applied_config) == (2, "")


def test_a_cancel_turns_the_way_back_to_the_queue_into_an_end_and_the_first_reason_stays() -> None:
    ending = apply(in_state(State.PREPARING), EndRequested(at=NOW, why=None))
    cancelled = apply(ending, EndRequested(at=LATER, why=EndReason.CANCELLED))
    assert (cancelled.requeue, cancelled.ended_why) == (False, EndReason.CANCELLED)
    assert apply(cancelled, EndRequested(at=LATER, why=EndReason.EXPIRED)) == cancelled
    assert apply(cancelled, EndRequested(at=LATER, why=None)) == cancelled
    assert apply(cancelled, CleanedUp(at=LATER)).state is State.ENDED


def test_gpus_are_taken_from_placing_until_the_boxes_are_gone() -> None:
    assert not in_state(State.QUEUED).occupies
    assert in_state(State.PREPARING).occupies
    assert in_state(State.ACTIVE).occupies
    assert in_state(State.ENDING).occupies
    assert not in_state(State.ENDING, boxes_gone=True).occupies
    assert not in_state(State.ENDED).occupies


def test_a_name_is_free_as_soon_as_its_reservation_is_ending_for_good() -> None:
    assert in_state(State.ACTIVE).holds_name
    assert in_state(State.ENDING, requeue=True).holds_name
    assert not in_state(State.ENDING).holds_name


def test_the_delay_after_a_fault_grows_to_a_minute_and_stays_there() -> None:
    record, delays = in_state(State.PREPARING), []
    for _ in range(9):
        record = lifecycle.with_fault(record, "not now", NOW)
        assert record.fault is not None
        delays.append((record.fault.next_try - NOW).total_seconds())
    assert delays == [1, 2, 5, 10, 20, 40, 60, 60, 60]
    assert record.fault is not None
    assert (record.fault.count, record.fault.since) == (9, NOW)


def test_a_delay_that_is_longer_than_any_comes_from_a_clock_that_was_set_back() -> None:
    record = lifecycle.with_fault(in_state(State.PREPARING), "not now", NOW)
    assert lifecycle.is_backing_off(record, NOW)
    assert not lifecycle.is_backing_off(record, NOW + timedelta(seconds=1))
    assert not lifecycle.is_backing_off(record, NOW - timedelta(hours=1))
    assert not lifecycle.is_backing_off(in_state(State.PREPARING), NOW)


def test_what_users_read_is_the_state_and_for_an_ended_one_its_reason() -> None:
    assert in_state(State.ENDING, ended_why=EndReason.FAILED).status == "ending"
    assert in_state(State.ENDED, ended_why=EndReason.FAILED).status == "failed"
