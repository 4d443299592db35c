"""The cluster that runs boxes. Every action may run twice: creating an existing object and deleting a missing one
succeed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from odc.domain.box import BoxName, BoxSeen, BoxSpec, StartWait
from odc.domain.host import HostReport
from odc.domain.node import Node


class Cluster(Protocol):
    """Nodes and the boxes on them. Any method may be called by several threads and processes at once.

    Every method raises `ProviderUnavailable` when the backend does not answer (the action may or may not have
    happened), and `ProviderRefused` when a retry would give the same answer.
    """

    def list_nodes(self) -> tuple[Node, ...]:
        """Every node by name. Nodes that do not answer are included, not ready."""

    def list_boxes(self) -> tuple[BoxSeen, ...]:
        """Every box of this cloud, running or not, by name. Others' containers are not shown and never touched."""

    def list_remains(self) -> tuple[tuple[str, int], ...]:
        """Reservation and attempt of everything that `clean_up` deletes: networks and files of boxes that exist or
        are gone; sorted."""

    def create_box(self, spec: BoxSpec) -> BoxSeen:
        """Make the box with all it needs (network, ports, files), but do not start it.

        Returns:
            What it got: its uid, node, address, ports, and GPUs where they are known. If a box of this name is there,
            it is returned as it is, with its own ports; one that has ended and that the cluster cannot start again is
            replaced.

        Raises:
            PlaceTaken: there are no free ports for it. It is not complete; it may be made again.
            ProviderRefused: the image does not exist, or the node cannot make such a box, with the reason. Where only
                the node can know that, `start_box` raises it.
        """

    def start_box(self, name: BoxName, uid: str) -> StartWait | None:
        """Start the box that was made. A running box is not changed, nor one that the cluster starts again by itself.

        It does not wait: a box whose node has to be added first, or whose node has to fetch the image, runs later. It
        is called again until it returns None, by this process or by another. The control plane limits the time of each
        phase (`Limits.node`, `Limits.image`), and deletes a box that exceeds it.

        Returns:
            None if the box runs; otherwise what it waits for. Such a box is listed as created.

        Raises:
            PlaceTaken: something else took its ports, or the room on its node, after it was made. A box that is made
                again gets others.
            ProviderRefused: it cannot start, with the reason.
            BoxGone: there is no box of this name and uid; engines of one machine raise `ProviderRefused`.
        """

    def ssh_answers(self, box: BoxSeen) -> bool:
        """Whether an SSH server answers at the box's port now. Waits less than a second.

        Raises:
            ProviderRefused: the box has exited, with its exit message: it will not answer until it is started again.
        """

    def write_files(self, name: BoxName, files: Mapping[str, bytes]) -> None:
        """Replace the box's files under `/run/odc`, each file atomically; other files are not changed.

        Does nothing if there is no such box.
        """

    def end_box(self, name: BoxName, uid: str, grace: timedelta) -> bool:
        """Ask the processes of the box of exactly this uid to end, and delete the box once they have. Does not wait for
        them: it is called again until it returns True.

        Args:
            name: of the box.
            uid: of the box; another box of this name is not touched.
            grace: how long its processes may take, counted from the first call (after a restart of the caller, from its
                first call). Then they are killed. Zero: at once.

        Returns:
            True if there is no box of this name and uid any more: it holds no GPU. False while it ends.
        """

    def clean_up(self, reservation_id: str, attempt: int) -> None:
        """Delete the networks and files of the attempts up to this one. Those of later attempts stay.

        A cluster may delete those of a box that has ended by itself.
        """

    def check_host(self, boxes: Sequence[BoxSeen]) -> HostReport:
        """Check the host's setup for running boxes, and restore missing parts. May take seconds; called by one task at
        a time, never in a pass or a request.

        Args:
            boxes: running boxes whose SSH should answer; the caller limits their number.
        """
