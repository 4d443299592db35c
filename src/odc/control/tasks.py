"""The tasks on boxes and disks. They run next to the passes, in threads, and may take minutes.

A task works for one attempt in one state. Every step of it may run twice, because tasks are started again after a crash
and after a fault. Each step therefore does nothing if it is done already, and names everything that it makes after the
reservation and the attempt.

The record may move on while the task runs: the user cancels, or another daemon requeues it. So the record is read again
before each step that makes something. If it has moved on, the task stops where it is (`Superseded`) and cleans up
nothing. That is the work of the task for the new state, which starts only when this one has ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from msgspec.structs import replace

from odc.control.box_files import box_config_digest, box_files, box_spec, holder_of, reservation_of
from odc.control.context import Policy, Ports
from odc.control.lease import PassLease
from odc.control.orphaned_disks import label_of
from odc.domain.box import BoxName, BoxSeen, BoxSpec, BoxState
from odc.domain.commands import gpu_dev
from odc.domain.disk import Disk, Snapshot
from odc.domain.errors import (
    Conflict,
    NotFound,
    OdcError,
    PlaceTaken,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    RequestError,
)
from odc.domain.node import Node
from odc.domain.records import Change
from odc.domain.reservation import Phase, Place, Reservation
from odc.domain.user import User, with_fetched_keys

SSH_POLL_S = 0.01
SSH_POLL_MAX_S = 0.25


class Superseded(OdcError):
    """The record has moved on, so the result of this task is obsolete. This is not a fault and is not reported."""


@dataclass(slots=True)
class Ready:
    """Result of `Tasks.prepare`: the places with their boxes' uids, and how long each phase took."""

    places: tuple[Place, ...] = ()
    phases: list[Phase] = field(default_factory=list)
    new_disk: bool = False


@dataclass(slots=True)
class Cleaned:
    """Result of `Tasks.clean`: the disk's new snapshot, if one was made, and how long each phase took."""

    snapshot: Snapshot | None = None
    phases: list[Phase] = field(default_factory=list)


@contextmanager
def _phase(phases: list[Phase], name: str, detail: str = "") -> Iterator[None]:
    """Record the duration of the block; a provider's error is prefixed with the phase."""
    begun = time.monotonic()
    try:
        yield
    except PlaceTaken as error:
        raise PlaceTaken(f"{name}: {error.message}", *error.hints, ports=error.ports) from error
    except ProviderError as error:
        raise type(error)(f"{name}: {error.message}", *error.hints) from error
    phases.append(Phase(name=name, seconds=round(time.monotonic() - begun, 3), detail=detail))


class Tasks:
    """The tasks, over the ports."""

    def __init__(self, ports: Ports, policy: Policy, lease: PassLease) -> None:
        """Store the arguments.

        Args:
            ports: what the tasks act on.
            policy: the operator's.
            lease: a task whose process loses it stops before its next step.
        """
        self._ports = ports
        self._policy = policy
        self._lease = lease

    def prepare(self, record: Reservation, nodes: tuple[Node, ...], epoch: int) -> Ready:
        """Make and start every box of the attempt, and wait until SSH answers.

        It also restarts a box that has stopped: the steps that are done already do nothing.

        Raises:
            Superseded: the record has moved on.
            ProviderError: with the phase in which it happened.
        """
        ready = Ready()
        self._leading(epoch)
        # Keys first: without them nobody could log in to the box.
        user = self._fresh_keys(record)
        home: str | None = None
        disk = self._disk_of(record)
        if disk is not None:
            with _phase(ready.phases, "disk", f"{disk.size_bytes / 2**30:g} GB"):
                # A disk that was used once is never created again: an empty one would look like lost data.
                if not disk.made:
                    ready.new_disk = self._ports.volumes.create(disk.id, disk.size_bytes)
                    self._ports.volumes.label(label_of(disk, record.user))
                self._take_from_unknown(disk)
                home = self._ports.volumes.attach(disk.id, holder_of(record), record.places[0].id_base)
                self._still_ours(record, disk, epoch)
        specs = self._specs(record, nodes, user, disk, home)
        with _phase(ready.phases, "box"):
            self._wanted(record, epoch)
            uids = [self._ports.cluster.create_box(spec) for spec in specs]
            # Also for a box that was there already: its files may be those of an earlier start.
            for spec in specs:
                self._ports.cluster.write_files(spec.name, spec.files)
            self._wanted(record, epoch)
            # By uid: a box of the same name that somebody else made is not started.
            for spec, uid in zip(specs, uids, strict=True):
                self._ports.cluster.start_box(spec.name, uid)
        with _phase(ready.phases, "ssh"):
            for spec in specs:
                self._await_ssh(record, spec, epoch)
        ready.places = tuple(replace(place, uid=uid) for place, uid in zip(record.places, uids, strict=True))
        return ready

    def refresh_files(self, record: Reservation, nodes: tuple[Node, ...], epoch: int) -> str:
        """Write the boxes' files again, because the expiry time, the keys or the operator's settings have changed.

        The keys are left as they are if the owner has none: an empty list would lock out a user who works in the box.

        Returns:
            The digest of what the boxes have now, as `box_files.box_config_digest` gives it.
        """
        user = self._ports.store.find_user(record.owner)
        if user is None:
            raise ProviderUnavailable(f"{record.user} has no record")
        for spec in self._specs(record, nodes, user, self._disk_of(record), None):
            # `disk_use` is measured and written by the storage maintenance.
            self._leading(epoch)
            kept = {"disk_use"} if user.keys else {"disk_use", "authorized_keys"}
            files = {path: content for path, content in spec.files.items() if path not in kept}
            self._ports.cluster.write_files(spec.name, files)
        return box_config_digest(record, user, self._policy)

    def stop(self, record: Reservation, boxes: tuple[BoxSeen, ...], epoch: int) -> None:
        """Stop and delete the boxes of this attempt and earlier ones. Afterwards none of them occupies a GPU.

        Args:
            record: ENDING.
            boxes: every box of the cloud, as the pass observed it. It only saves the first list call: the final check
                lists again.
        """
        removed = set()
        ours = self._boxes_up_to(record, boxes) or self._boxes_up_to(record, self._ports.cluster.list_boxes())
        # Until a list shows none: a task of an earlier attempt may have made one after the list before.
        while ours:
            for box in ours:
                self._leading(epoch)
                self._remove(box.name, box.uid, box.state is BoxState.RUNNING)
                removed.add(box.uid)
            ours = self._boxes_up_to(record, self._ports.cluster.list_boxes())
        for rank, place in enumerate(record.places):
            # A box that the record names is deleted even if it is not listed: its GPUs are given away after this.
            if place.uid and place.uid not in removed:
                self._leading(epoch)
                self._remove(BoxName(record.id, record.attempt, rank), place.uid, runs=True)

    def _remove(self, name: BoxName, uid: str, runs: bool) -> None:
        if runs:
            self._ports.cluster.stop_box(name, uid, self._policy.grace)
        self._ports.cluster.remove_box(name, uid)

    def clean(self, record: Reservation, epoch: int) -> Cleaned:
        """Delete the attempt's network and files, detach the disk, and take its snapshot if it may have changed."""
        self._leading(epoch)
        done = Cleaned()
        self._ports.cluster.clean_up(record.id, record.attempt)
        disk = self._disk_of(record)
        if disk is None:
            return done
        self._leading(epoch)
        with _phase(done.phases, "detach"):
            self._ports.volumes.detach(disk.id, holder_of(record))
        if record.requeue or record.active_at is None:
            # The box was never ready, so the disk is unchanged.
            return done
        # Named after the attempt, so that a second run returns the snapshot of the first.
        self._leading(epoch)
        with _phase(done.phases, "snapshot"):
            snapshot = self._ports.volumes.snapshot(disk.id, holder_of(record))
        self._leading(epoch)
        with _phase(done.phases, "listing"):
            listing = f"listings/{disk.id}/{snapshot.id}"
            self._ports.volumes.write_listing(disk.id, snapshot.id, listing)
        done.snapshot = replace(snapshot, listing=listing)
        return done

    def remove(self, box: BoxSeen, epoch: int) -> None:
        """Delete a box whose record has ended or is at a later attempt."""
        self._leading(epoch)
        self._ports.cluster.remove_box(box.name, box.uid)
        self._ports.cluster.clean_up(box.name.reservation_id, box.name.attempt)

    def _specs(
        self, record: Reservation, nodes: tuple[Node, ...], user: User, disk: Disk | None, home: str | None
    ) -> list[BoxSpec]:
        by_name = {node.name: node for node in nodes}
        specs = []
        for rank, place in enumerate(record.places):
            node = by_name.get(place.node)
            if node is None:
                raise ProviderUnavailable(f"node {place.node} is not there")
            files = box_files(record, rank, node, user, disk, self._policy)
            specs.append(box_spec(record, rank, node, home, files, self._policy))
        return specs

    def _boxes_up_to(self, record: Reservation, boxes: tuple[BoxSeen, ...]) -> list[BoxSeen]:
        return [box for box in boxes if box.name.reservation_id == record.id and box.name.attempt <= record.attempt]

    def _disk_of(self, record: Reservation) -> Disk | None:
        if record.disk_id is None:
            return None
        # By its id: an operator may have handed it to another owner since the record was read.
        disk = self._ports.store.find_disk(record.disk_id)
        if disk is None:
            raise ProviderRefused(f"disk {record.spec.disk} has no record any more")
        return disk

    def _wanted(self, record: Reservation, epoch: int) -> None:
        """Raise Superseded unless the stored record is still at this attempt and state, and the lease is ours."""
        self._leading(epoch)
        now = self._ports.store.find_reservation(record.id)
        if now is None or now.attempt != record.attempt or now.state is not record.state:
            raise Superseded(f"{record.id} has moved on")

    def _leading(self, epoch: int) -> None:
        """Raise Superseded unless this process has had the lease since that epoch."""
        if not self._lease.holds(epoch):
            raise Superseded("another process runs the passes")

    def _take_from_unknown(self, disk: Disk) -> None:
        """Detach the volume from a holder without a record, if its box is gone.

        After a restore from an older backup a box may have a volume and no record. Once the operator has removed that
        box, no record asks for the detach.
        """
        holder = self._ports.volumes.list_attached().get(disk.id)
        if holder is None or self._ports.store.find_reservation(reservation_of(holder)) is not None:
            return
        if all(box.name.reservation_id != reservation_of(holder) for box in self._ports.cluster.list_boxes()):
            self._ports.volumes.detach(disk.id, holder)

    def _still_ours(self, record: Reservation, disk: Disk, epoch: int) -> None:
        """Detach the volume again if the attempt was over before the volume was attached.

        Another daemon may have ended the attempt and cleaned up in between. It did not see this attachment, so no later
        task would remove it.

        Raises:
            Superseded: the record has moved on.
        """
        now = self._ports.store.find_reservation(record.id)
        if now is not None and (now.attempt > record.attempt or not now.occupies):
            self._ports.volumes.detach(disk.id, holder_of(record))
        self._wanted(record, epoch)

    def _await_ssh(self, record: Reservation, spec: BoxSpec, epoch: int) -> None:
        pause, begun = SSH_POLL_S, time.monotonic()
        while not self._ports.cluster.ssh_answers(spec):
            if time.monotonic() - begun > self._policy.ssh_try.total_seconds():
                raise ProviderUnavailable("the box runs, but no SSH server answers in it")
            # Read the record only at the slow rate: most boxes answer within the first polls.
            if pause >= SSH_POLL_MAX_S:
                self._wanted(record, epoch)
            time.sleep(pause)
            pause = min(pause * 1.5, SSH_POLL_MAX_S)

    def _fresh_keys(self, record: Reservation) -> User:
        """Return the owner with recently fetched keys, or with the last good ones if GitHub does not answer.

        Raises:
            ProviderRefused: there is no key at all, so that no login would be possible.
        """
        user = self._ports.store.find_user(record.owner)
        if user is not None and user.github_user and self._stale(user):
            user = self._refetch(user)
        if user is None or not user.keys:
            hint = ("set one", gpu_dev("config set github_user NAME"))
            raise ProviderRefused(f"{record.user} has no SSH key and could not log in to the box", hint)
        return user

    def _stale(self, user: User) -> bool:
        fetched = user.github_fetched_at
        return fetched is None or self._ports.clock.now() - fetched > self._policy.keys_fresh

    def _refetch(self, user: User) -> User:
        try:
            fetched = self._ports.keys.fetch(user.github_user, user.github_keys if user.github_id else ())
        except (ProviderError, RequestError) as error:
            fresh = replace(user, github_fault=error.message + self._renamed(user, error))
        else:
            fresh = with_fetched_keys(user, fetched.user_id, fetched.keys)
            fresh = replace(fresh, github_fetched_at=self._ports.clock.now())
        try:
            self._ports.store.commit(Change(users=(fresh,)))
        except Conflict:
            # Another writer was first, such as the start of another box. These keys are as good for this box.
            return fresh
        return fresh

    def _renamed(self, user: User, error: OdcError) -> str:
        """Return a sentence about the account's new login, if the login is missing because its owner has renamed the
        account.
        """
        if not isinstance(error, NotFound) or not user.github_id:
            return ""
        login = self._ports.keys.find_login(user.github_id)
        if not login or login.lower() == user.github_user.lower():
            return ""
        return f"; that account is called {login} now"
