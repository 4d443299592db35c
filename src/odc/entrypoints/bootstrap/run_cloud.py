"""Runs a cloud, whatever it is made of: passes in one thread, tasks in a few more, and the API in a server.

What belongs to one deployment (locks, sockets, how callers prove who they are) is in a module for each: for one machine
it is `machine`.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from odc import __version__
from odc.adapters.system.thread_runner import ThreadRunner
from odc.api.messages.cloud import Health
from odc.api.problem_views import problem_views, visible_problems
from odc.control.context import ClusterStatus, Policy, Ports
from odc.control.control_plane import ControlPlane
from odc.control.pass_loop import PassLoop
from odc.domain.access import Principal
from odc.domain.errors import ProviderError
from odc.domain.node import Node
from odc.domain.problem_text import problem_texts

log = logging.getLogger(__name__)

CHECK_INTERVAL_S = 5.0
"""Time between two calls of the deployment's own checks."""
SWITCH_INTERVAL_S = 0.0005
"""How long one thread may compute while another waits for the interpreter. Python's own 5 ms would be added each time
that a task has heard from the engine while a pass or a request computes."""
PASS_LIMIT_S = 30.0
"""How long the end waits for a pass that runs."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """A working cloud.

    Attributes:
        policy: the settings as the control plane reads them.
        ports: its adapters.
        nodes: its nodes, as far as they were known when it was built.
        engine: what runs its boxes, in a few words for people.
        close: closes the records; boxes and their disks stay.
    """

    policy: Policy
    ports: Ports
    nodes: tuple[Node, ...]
    engine: str
    close: Callable[[], None]

    def health(self, status: ClusterStatus, has_begun: bool, caller: Principal) -> Health:
        """Return whether the cloud accepts requests, and its components.

        Args:
            status: the cluster as the last pass observed it.
            has_begun: passes run since this process has started, and it is not being stopped.
            caller: who asks; users do not see the names of others' reservations.
        """
        problems = visible_problems(status.problems, caller)
        types: dict[str, int] = {}
        nodes = status.nodes or self.nodes
        for node in nodes:
            types[node.gpu_type] = types.get(node.gpu_type, 0) + node.units
        return Health(
            ready=has_begun and status.at is not None,
            version=__version__,
            cloud=self.policy.cloud,
            types=types,
            simulated=any(node.simulated for node in nodes),
            storage=self._storage(),
            engine=self.engine,
            problems=problem_texts(problems),
            problem_details=problem_views(problems),
        )

    def _storage(self) -> str:
        """Describe the storage. One that has no disks, or does not answer now, does not keep the cloud from serving."""
        try:
            return self.ports.volumes.describe()
        except ProviderError as error:
            return f"none: {error.message}"


class Server(Protocol):
    """Serves the API."""

    def start(self) -> None:
        """Accept connections; return once they are accepted."""

    def stop(self) -> None:
        """End the connections and return."""


Served = TypeVar("Served", bound=Server)


def prepare_interpreter() -> None:
    """Set up Python for a process that lives long and answers fast. Called once everything is imported."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # Modules, classes and functions live as long as the process: half of what a full garbage collection would go
    # through each time, while requests wait.
    gc.collect()
    gc.freeze()


def run_cloud(
    cloud: Cloud,
    holder: str,
    make_server: Callable[[Any], Served],
    check: Callable[[Served], None],
    stop: threading.Event,
) -> None:
    """Serve the API and run passes until `stop` is set. The caller closes the cloud afterwards.

    Args:
        cloud: to run.
        holder: the name under which this process takes the lease for passes; a later process of the same name takes it
            over at once.
        make_server: makes the server of the application.
        check: the deployment's own checks, called every few seconds.
        stop: set to end; also set by a bug in the passes, which ends the process.
    """
    from odc.api.app import build_app  # slow to import, and `odc` imports this module for every command

    prepare_interpreter()
    runner = ThreadRunner(cloud.ports.wake.notify)
    plane = ControlPlane(cloud.ports, cloud.policy, runner)
    loop = plane.pass_loop(holder)

    def health(caller: Principal) -> Health:
        return cloud.health(plane.status.current, loop.has_begun and not stop.is_set(), caller)

    server = make_server(build_app(plane, health))
    passes = threading.Thread(target=_passes, args=(loop, stop), name="passes", daemon=True)
    server.start()
    passes.start()
    while not stop.wait(CHECK_INTERVAL_S):
        check(server)
    loop.stop()
    passes.join(PASS_LIMIT_S)
    server.stop()
    runner.close()


def _passes(loop: PassLoop, stop: threading.Event) -> None:
    """Run passes; a bug ends the whole daemon, which is started again, rather than a daemon that does nothing."""
    try:
        loop.run()
    except BaseException:
        log.exception("the passes ended by a bug")
        stop.set()
        os._exit(70)
