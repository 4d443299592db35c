"""A running box that got other ports, as when its Service was deleted and something else took its ports. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from odc.control.observation import Observation
from odc.control.steps import Step
from odc.domain.box import SSH, BoxSeen
from odc.domain.event_kind import EventKind
from odc.domain.reservation import Place, Reservation


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
    for place, before in zip(places, record.places, strict=True):
        if place != before:
            step.add_event(record, seen.now, EventKind.ADDRESS_CHANGED, new_ports_text(place))
    return step


def new_ports_text(place: Place) -> str:
    """Where SSH of a box is now."""
    return f"SSH of its box on {place.node} is now at {place.address}, port {place.ports.get(SSH, 0)}"


def _with_ports(place: Place, box: BoxSeen | None) -> Place:
    # A box of version 0.1.0 may be listed without some of its ports.
    if box is None or place.ports.keys() != box.ports.keys() or dict(place.ports) == dict(box.ports):
        return place
    return replace(place, ports=dict(box.ports))
