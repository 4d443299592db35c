"""The assembled control plane: it handles requests, answers queries and runs passes, on the same ports.

The daemon, the tests and the benchmarks use this object, so that all of them are wired in the same way.
"""

from __future__ import annotations

from odc.control.authorization import Authorizer
from odc.control.context import Policy, Ports
from odc.control.lease import PassLease
from odc.control.pass_loop import PassLoop
from odc.control.queries import Queries
from odc.control.reconcile import Reconciler
from odc.control.requests import Requests
from odc.control.status_records import StatusRecords
from odc.control.sweeps import Sweeps
from odc.control.task_runner import Runner


class ControlPlane:
    """The parts of one process's control plane.

    Several processes may have one each over the same store: the versions of the records keep them apart, and the lease
    of `PassLoop` keeps all but one from running passes in vain.

    Attributes:
        ports: the adapters.
        policy: the operator's.
        status: the cluster as the last pass has stored it; written by passes, read by everything else.
        requests: decides on requests; for several threads.
        queries: answers questions; for several threads.
        reconciler: runs single passes; for one thread.
    """

    def __init__(self, ports: Ports, policy: Policy, runner: Runner) -> None:
        """Wire the parts; nothing is read or started.

        Args:
            ports: the adapters.
            policy: the operator's.
            runner: carries out tasks. The caller closes it after the last pass.
        """
        self.ports = ports
        self.policy = policy
        self.status = StatusRecords(ports)
        self._lease = PassLease(ports.leases, ports.clock)
        sweeps = Sweeps(ports.leases, ports.clock, self._lease)
        authorizer = Authorizer(ports.store, ports.history)
        self.requests = Requests(ports, policy, self.status, sweeps, authorizer)
        self.queries = Queries(ports, policy, self.status, authorizer)
        self.reconciler = Reconciler(ports, policy, self.status, sweeps, runner, self._lease)

    def pass_loop(self, holder: str) -> PassLoop:
        """The loop that runs passes until it is stopped.

        Args:
            holder: the name under which this process takes the lease for passes.
        """
        return PassLoop(self.reconciler, self.ports, self._lease, holder)
