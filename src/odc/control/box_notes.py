"""What is noted of the boxes of an active reservation: restarts, whether users reach them, other ports. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from odc.control.observation import Observation
from odc.control.steps import Step
from odc.domain.box import SSH, BoxSeen
from odc.domain.event_kind import EventKind
from odc.domain.reservation import Place, Reservation


def note_restart(record: Reservation, places: tuple[Place, ...], seen: Observation) -> Step:
    """Record that its boxes run again, with an event that says what had happened.

    Args:
        record: ACTIVE.
        places: with the boxes that run now.
        seen: the observation.
    """
    again = replace(record, places=places, under_way=None, fault=None, unreachable="", missing_since=None)
    step = Step(record=again)
    step.add_event(record, seen.now, EventKind.RESTARTED, _restart_text(record, places, seen))
    _add_new_ports(step, record, places, seen)
    return step


def _restart_text(record: Reservation, places: tuple[Place, ...], seen: Observation) -> str:
    lost = "what it had outside of the home is lost"
    made = {place.uid for place in places} - {place.uid for place in record.places}
    reasons = [box.replaces for uid in sorted(made) if (box := seen.by_uid.get(uid)) and box.replaces]
    if reasons:
        return f"its box had ended for good ({reasons[0]}) and was made again; {lost}"
    if record.missing_since is not None and made:
        return f"its box had been removed by someone other than ODC, and was made again; {lost}"
    return "its box had stopped and was started again"


def note_reachability(record: Reservation, seen: Observation) -> Step | None:
    """Note when users cannot reach its boxes, with the cause, and when they can again.

    It only informs the user and the operator. The box keeps running: its processes do not need SSH.
    """
    uids = [place.uid for place in record.places]
    cause = next((seen.host.unreachable[uid] for uid in uids if uid in seen.host.unreachable), "")
    # A box that was not probed yet is neither reachable nor unreachable.
    if not cause and not all(uid in seen.host.reachable for uid in uids):
        return None
    if cause == record.unreachable:
        return None
    step = Step(record=replace(record, unreachable=cause))
    if not record.unreachable:
        step.add_event(record, seen.now, EventKind.UNREACHABLE, f"its SSH does not answer: {cause}")
    elif not cause:
        step.add_event(record, seen.now, EventKind.REACHABLE, "its SSH answers again")
    return step


def note_new_ports(record: Reservation, seen: Observation) -> Step | None:
    """Record the ports that its boxes have now, with an event for each box whose ports changed; None if none did.

    Args:
        record: ACTIVE.
        seen: the observation.
    """
    places = tuple(_with_ports(place, seen.by_uid.get(place.uid)) for place in record.places)
    if places == record.places:
        return None
    step = Step(record=replace(record, places=places))
    _add_new_ports(step, record, places, seen)
    return step


def _add_new_ports(step: Step, record: Reservation, places: tuple[Place, ...], seen: Observation) -> None:
    for place, before in zip(places, record.places, strict=True):
        if dict(place.ports) != dict(before.ports):
            text = f"SSH of its box on {place.node} is now at {place.address}, port {place.ports.get(SSH, 0)}"
            step.add_event(record, seen.now, EventKind.ADDRESS_CHANGED, text)


def _with_ports(place: Place, box: BoxSeen | None) -> Place:
    # A box of version 0.1.0 may be listed without some of its ports.
    if box is None or place.ports.keys() != box.ports.keys() or dict(place.ports) == dict(box.ports):
        return place
    return replace(place, ports=dict(box.ports))
