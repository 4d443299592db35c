"""Records as clients see them: pure. Of others' reservations only the public fields are filled."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from msgspec.structs import replace

from odc.api.hints import hint_view
from odc.api.messages.cloud import Availability, ChoiceView, NodeView, StatusView, TypeView
from odc.api.messages.requests import ErrorView
from odc.api.messages.reservations import (
    BoxPhaseView,
    BoxReportView,
    BoxView,
    EventView,
    GivenUpView,
    History,
    OutOfMemoryView,
    PhaseView,
    PublicView,
    ReservationView,
    SnapshotView,
    SshView,
    WaitsForView,
)
from odc.api.messages.storage import DiskView
from odc.api.messages.users import KeySource, KeyView, Me, UserView
from odc.api.problem_views import problem_views, visible_problems
from odc.control.availability import TypeAvailability, node_counts
from odc.control.context import ClusterStatus
from odc.control.queries import ReservationDetail
from odc.control.queue_positions import Ahead
from odc.control.user_admin import UserAccount
from odc.domain.access import Act, Principal, allowed
from odc.domain.box import SSH, BoxSeen
from odc.domain.box_report import BoxReport
from odc.domain.disk import Disk, Snapshot
from odc.domain.errors import OdcError
from odc.domain.names import cut
from odc.domain.node import Node
from odc.domain.outlook import NodeUse
from odc.domain.problem_text import problem_texts
from odc.domain.records import AuditEvent
from odc.domain.reservation import Reservation, State
from odc.domain.resources import share_of
from odc.domain.ssh_keys import comment_of, fingerprint, kind_of
from odc.domain.status import BoxStatus, EndCause, TroubleKind
from odc.domain.storage import DiskUse, StorageUse
from odc.domain.user import User, uid_of

SSH_USER = "dev"
MOST_WORDS = 2000
"""Characters of a message or command in an error; those that ODC writes by itself are far shorter."""
_HAS_BOXES = (State.PREPARING, State.ACTIVE, State.ENDING)


def error_view(error: OdcError) -> ErrorView:
    """Return an error for the wire, shortened whatever the client sent. A command that would have to be cut is left
    out.
    """
    kept = [hint for hint in error.hints if len(hint.command) <= MOST_WORDS]
    hints = tuple(hint_view(hint) for hint in kept)
    first = hints[0].command if hints else ""
    return ErrorView(
        error=type(error).__name__,
        message=cut(error.message, MOST_WORDS),
        text=cut(error.text, MOST_WORDS) if error.when else "",
        when=error.when,
        hint=first,
        hints=hints,
    )


def reservation_view(standing: ReservationDetail, caller: Principal, look: ClusterStatus) -> ReservationView:
    """Return a reservation with the fields that this caller may see."""
    record = standing.record
    spec = record.spec
    estimate = record.slot.start if record.slot and record.slot.estimate else None
    public = ReservationView(
        id=record.id,
        name="",
        owner=record.user,
        state=record.status,
        gpu_type=spec.gpu_type,
        gpus=spec.gpus * spec.nodes,
        nodes=spec.nodes,
        hours=spec.hours,
        created_at=record.created_at,
        active_at=record.active_at,
        expires_at=record.expires_at,
        ended_at=record.ended_at,
        ready_by=record.ready_by if record.state in (State.QUEUED, State.PREPARING) else None,
        estimate=estimate if record.state is State.QUEUED else None,
        queue_position=standing.position,
        simulated=_is_simulated(record, look),
        mine=caller.id == record.owner,
        version=record.version,
    )
    return _with_private(public, standing, look) if allowed(caller, Act.SEE, record.owner) else public


def _with_private(public: ReservationView, standing: ReservationDetail, look: ClusterStatus) -> ReservationView:
    record, disk = standing.record, standing.disk
    return replace(
        public,
        name=record.name,
        cause=_cause(record),
        ended_by=record.ended_by,
        reason=f"by {record.ended_by}" if record.ended_by else record.end_text,
        detail=record.end_detail,
        given_up=_given_up(record),
        waits_for=_waits_for(standing.ahead, record) if standing.ahead else None,
        ahead=_ahead_text(standing.ahead) if standing.ahead else "",
        disk=disk.name if disk else record.spec.disk,
        disk_new=disk is not None and not disk.made,
        snapshot=snapshot_view(standing.snapshot) if standing.snapshot else None,
        boxes=_boxes(record, look) if record.state in _HAS_BOXES else (),
        phases=_phases(record),
        trouble_kind=_trouble_kind(record),
        trouble=_trouble(record),
        attempt=record.attempt,
        requeue=record.requeue,
        host_key=record.host_key,
        out_of_memory=_out_of_memory(record),
    )


def _is_simulated(record: Reservation, look: ClusterStatus) -> bool:
    """Whether its GPUs are simulated: those that it has, even of a type that has left, else those of its type."""
    if any(place.simulated for place in record.places):
        return True
    return record.spec.gpu_type in look.simulated_types


def _phases(record: Reservation) -> tuple[PhaseView, ...]:
    """Return the phases that are done, in order, and then the one under way."""
    done = tuple(PhaseView(name=p.name, seconds=p.seconds, detail=p.detail) for p in record.phases)
    now = record.under_way
    return (*done, PhaseView(name=now.name, seconds=None, detail=now.detail, since=now.since)) if now else done


def _cause(record: Reservation) -> EndCause | None:
    """Return why it ended or was requeued; for a record of 0.1.0 only the sentence is known."""
    return record.end_cause or (EndCause.OTHER if record.ended_why or record.end_detail else None)


def _given_up(record: Reservation) -> GivenUpView | None:
    found = record.given_up
    if found is None:
        return None
    return GivenUpView(phase=found.phase, limit_s=found.limit_s, last_attempt=found.last_attempt)


def _waits_for(ahead: Ahead, record: Reservation) -> WaitsForView:
    other = ahead.reservation
    return WaitsForView(
        kind=ahead.kind,
        reservation=_public_view(other) if other else None,
        mine=other is not None and other.owner == record.owner,
        disk=ahead.disk,
    )


def _ahead_text(ahead: Ahead) -> str:
    return _public_text(_public_view(ahead.reservation)) if ahead.reservation else f"the snapshot of disk {ahead.disk}"


def _public_view(record: Reservation) -> PublicView:
    spec = record.spec
    return PublicView(user=record.user, gpus=spec.gpus * spec.nodes, gpu_type=spec.gpu_type)


def _public_text(view: PublicView) -> str:
    """`user, 8 x h100`."""
    return f"{view.user}, {view.gpus} x {view.gpu_type}" if view.gpus else f"{view.user}, {view.gpu_type}"


def _out_of_memory(record: Reservation) -> OutOfMemoryView | None:
    found = record.out_of_memory
    if not found.kills:
        return None
    return OutOfMemoryView(kills=found.kills, last_at=found.last_at, command=found.command, stopped=found.stopped)


def _trouble_kind(record: Reservation) -> TroubleKind | None:
    if record.unreachable:
        return TroubleKind.UNREACHABLE
    return record.fault.kind if record.fault else None


def _trouble(record: Reservation) -> str:
    if record.unreachable:
        return f"unreachable: {record.unreachable}"
    return record.fault.message if record.fault else ""


def snapshot_view(snapshot: Snapshot) -> SnapshotView:
    """A snapshot."""
    return SnapshotView(
        id=snapshot.id,
        taken_at=snapshot.taken_at,
        verified=snapshot.verified_at is not None,
        used_bytes=snapshot.used_bytes,
    )


def _boxes(record: Reservation, look: ClusterStatus) -> tuple[BoxView, ...]:
    nodes = look.node_by_name
    seen = {(box.name.attempt, box.name.rank): box for box in look.boxes_of.get(record.id, ())}
    views = []
    for rank, place in enumerate(record.places):
        node = nodes.get(place.node)
        box = seen.get((record.attempt, rank))
        resources = place.resources or (share_of(node.allocatable, record.spec.units, node.units) if node else None)
        # While it is prepared, its record does not have them yet.
        ports = place.ports or (box.ports if box else {})
        # Of an end whose boxes are gone they are lent no more.
        gpus = place.gpus if record.occupies else ()
        indexes = tuple(node.gpus.index(gpu) for gpu in gpus if gpu in node.gpus) if node else ()
        unreachable = (node is not None and not node.ready) or bool(record.unreachable)
        # As it was when the box was made: the box listens there even if the settings have changed since.
        host = place.address or "127.0.0.1"
        views.append(
            BoxView(
                rank=rank,
                name=f"{record.name}-{rank}",
                node=place.node,
                state=_box_status(box, unreachable),
                gpus=gpus,
                gpu_indexes=indexes,
                cpus=resources.cpus if resources else 0,
                memory_gib=resources.limit.memory_gib if resources else 0.0,
                ssh=_ssh_view(host, ports[SSH]) if SSH in ports else None,
                ports=dict(ports),
                layer_used_bytes=(box.layer_used_bytes or None) if box else None,
                layer_bytes=(box.layer_bytes or None) if box else None,
                report=_report_view(box.report) if box and box.report else None,
            )
        )
    return tuple(views)


def _ssh_view(host: str, port: int) -> SshView:
    return SshView(host=host, port=port, user=SSH_USER, command=f"ssh {SSH_USER}@{host} -p {port}")


def _report_view(report: BoxReport) -> BoxReportView:
    return BoxReportView(
        sshd=report.sshd,
        home=report.home,
        not_set_up=report.not_set_up,
        started_at=report.started_at,
        keys=report.keys,
        expires_at=report.expires_at,
        phases=tuple(BoxPhaseView(name=phase.name, seconds=phase.seconds) for phase in report.phases),
    )


def _box_status(box: BoxSeen | None, unreachable: bool) -> BoxStatus:
    if unreachable:
        return BoxStatus.UNREACHABLE
    return BoxStatus(box.state) if box else BoxStatus.ABSENT


def history_view(record: Reservation, events: Iterable[AuditEvent]) -> History:
    """Return the events of a reservation."""
    told = tuple(
        EventView(at=event.at, actor=event.actor, kind=event.kind, text=event.text, when=event.when) for event in events
    )
    return History(id=record.id, name=record.name, events=told)


def me_view(user: User, caller: Principal) -> Me:
    """Return the caller and their keys."""
    keys = [
        KeyView(
            fingerprint=fingerprint(line),
            kind=kind_of(line),
            comment=comment_of(line),
            source=KeySource.GITHUB if line in user.github_keys else KeySource.OWN,
            key=" ".join(line.split()[:2]),
        )
        for line in user.keys
    ]
    return Me(
        user=caller.user,
        principal=caller.id,
        admin=caller.admin,
        github_user=user.github_user,
        github_fault=user.github_fault,
        keys=tuple(keys),
    )


def user_view(account: UserAccount) -> UserView:
    """One user, for operators."""
    user = account.user
    return UserView(
        principal=user.principal,
        uid=uid_of(user.principal),
        name=user.name,
        login=account.login,
        held=account.held,
        disks=tuple(disk.name for disk in account.disks),
        reservations=tuple(record.name for record in account.live),
        keys=len(user.keys),
        github_user=user.github_user,
    )


def type_view(available: TypeAvailability) -> TypeView:
    """One GPU type."""
    nodes, outlook, counts = available.nodes, available.outlook, available.counts
    head = outlook.first
    first = PublicView(user=head.user, gpus=head.gpus, gpu_type=available.name) if head else None
    return TypeView(
        name=available.name,
        has_gpus=outlook.has_gpus,
        free=counts.free,
        total=counts.total,
        held=counts.held,
        quarantined=counts.quarantined,
        held_by_others=counts.others,
        unavailable=counts.unavailable,
        cordoned=sum(node.units for node in nodes if node.cordoned),
        live=outlook.live,
        queued=len(outlook.queue),
        first_queued=first,
        waiting=_public_text(first) if first else "",
        simulated=any(node.simulated for node in nodes),
        node_units=max((node.units for node in nodes), default=0),
        choices=tuple(
            ChoiceView(gpus=count, start=opening.start, until=opening.until)
            for count, opening in sorted(available.choices.items())
        ),
    )


def availability_view(outlooks: Iterable[TypeAvailability], now: datetime) -> Availability:
    """Return availability by type."""
    return Availability(now=now, types=tuple(type_view(outlook) for outlook in outlooks))


def status_view(
    outlooks: tuple[TypeAvailability, ...], look: ClusterStatus, now: datetime, caller: Principal
) -> StatusView:
    """Return the view of the whole cloud, as this caller may see it."""
    use = {name: one for available in outlooks for name, one in available.use.items()}
    nodes = tuple(_node_view(node, use.get(node.name, NodeUse())) for node in look.nodes)
    problems = visible_problems(look.problems, caller)
    strays = tuple(f"{box.name} on {box.node} holds {box.units} {box.gpu_type}" for box in look.quarantined)
    return StatusView(
        now=now,
        types=tuple(type_view(outlook) for outlook in outlooks),
        nodes=nodes,
        quarantined=strays,
        warnings=problem_texts(problems),
        problem_details=problem_views(problems),
    )


def _node_view(node: Node, use: NodeUse) -> NodeView:
    counts = node_counts(node, use)
    return NodeView(
        name=node.name,
        gpu_type=node.gpu_type,
        total=counts.total,
        free=counts.free,
        ready=node.ready,
        cordoned=node.cordoned,
        simulated=node.simulated,
        boxes=use.boxes,
        held=counts.held,
        quarantined=counts.quarantined,
        held_by_others=counts.others,
        unavailable=counts.unavailable,
    )


def disk_view(disk: Disk, holder: Reservation | None, storage: StorageUse | None) -> DiskView:
    """One disk; `storage` is the last measurement."""
    last = disk.last_snapshot
    use = storage.disks.get(disk.id, DiskUse()) if storage else DiskUse()
    counted = use.live_bytes if use.live_bytes is not None else last.used_bytes if last else None
    return DiskView(
        name=disk.name,
        size_bytes=disk.size_bytes,
        used_bytes=counted,
        history_bytes=use.history_bytes,
        created_at=disk.created_at,
        holder=holder.name if holder else None,
        holder_id=disk.holder,
        snapshot=snapshot_view(last) if last else None,
        fault=disk.fault,
    )
