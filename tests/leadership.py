"""Daemons as `tests.leader`, and ways to take the leadership from one in the middle of a call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.leader import socket_of
from tests.shared_cloud import SPEED, RemoteCall
from tests.waiting import eventually, suspend

from odc.adapters.memory.cluster import MemoryCluster
from odc.adapters.sql.state_store import SqlStateStore
from odc.api.client import Client
from odc.control import lease
from odc.domain.box import BoxName, BoxState
from odc.domain.errors import ProviderRefused, ProviderUnavailable, RequestError
from odc.domain.reservation import State

Work = Callable[[], Any]
TAKEN_OVER_S = lease.DURATION.total_seconds() / SPEED + 0.1
"""By then the lease of a daemon that does nothing has expired, and the other daemon leads."""
PATIENCE_S = 3.0


class Daemons:
    """Two daemons, of which one may be killed and started again."""

    def __init__(self, folder: Path, database: str) -> None:
        self._folder, self._database = folder, database
        self._lock = threading.Lock()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start one; return at once."""
        command = [sys.executable, "-m", "tests.leader", str(self._folder), name, self._database]
        self._processes[name] = subprocess.Popen(command)

    def wait_for(self, name: str) -> None:
        """Return when it accepts connections."""
        eventually(f"{name} serves", socket_of(self._folder, name).exists)

    def other_socket(self, pid: int) -> Path:
        """The socket of the daemon that is not this process."""
        return next(socket_of(self._folder, name) for name, own in self._processes.items() if own.pid != pid)

    def kill(self, pid: int) -> None:
        """`kill -9`, and start it again."""
        with self._lock:
            for name, process in self._processes.items():
                if process.pid == pid:
                    process.kill()
                    process.wait(30)
                    self.start(name)
                    return

    def end(self) -> list[int]:
        """Let them end in order; their exit statuses."""
        for process in self._processes.values():
            process.terminate()
        return [process.wait(30) for process in self._processes.values()]

    def close(self) -> None:
        """Kill what still runs."""
        for process in self._processes.values():
            process.kill()
            process.wait(30)


class Leadership:
    """Carries out the calls of the daemons; at one of them it takes the leadership from the daemon that makes it."""

    def __init__(self, store: SqlStateStore, cluster: MemoryCluster, daemons: Daemons) -> None:
        self._store, self._cluster, self._daemons = store, cluster, daemons
        self._lock = threading.Lock()
        self._armed: tuple[str, str] | None = None
        self._over = threading.Event()
        self.leaders: set[int] = set()
        """Those that have run passes, by pid."""
        self.wrong_starts: list[str] = []
        """Boxes that ran after their reservation had given its GPUs back, or with the GPU of another one."""

    def take_at(self, method: str, how: str) -> None:
        """Take it at the next call of this method, and wait until that is over.

        Args:
            method: of the cluster or the volumes; or `restart_box`, a start of a box that has stopped.
            how: the name of one of the methods below.
        """
        self._over.clear()
        self._armed = (method, how)
        assert self._over.wait(30), f"nobody called {method}"

    def __call__(self, call: RemoteCall, work: Work) -> Any:
        """Carry out one call."""
        if call.method == "list_nodes":
            self.leaders.add(call.pid)
        with self._lock:
            if self._armed is None or self._armed[0] != self._kind_of(call):
                how = ""
            else:
                (_, how), self._armed = self._armed, None
        try:
            if not how:
                return work()
            return getattr(self, how)(call, work)
        finally:
            if call.method == "start_box":
                self._check_start(call.arguments[0])
            if how:
                self._over.set()

    def _check_start(self, name: BoxName) -> None:
        # The record first: GPUs are given back after the box is gone.
        record = self._store.find_reservation(name.reservation_id)
        running = {box.name: box for box in self._cluster.peek() if box.state is BoxState.RUNNING}
        box = running.pop(name, None)
        if box is None:
            return
        if record is None or not record.occupies or record.attempt != name.attempt:
            self.wrong_starts.append(f"{name} runs, and its record does not say so")
        shared = [other.name for other in running.values() if set(other.gpus) & set(box.gpus)]
        if shared:
            self.wrong_starts.append(f"{name} runs with GPUs of {shared}")

    def _kind_of(self, call: RemoteCall) -> str:
        if call.method != "start_box":
            return call.method
        stopped = {box.name for box in self._cluster.peek() if box.state is BoxState.EXITED}
        return "restart_box" if call.arguments[0] in stopped else "start_box"

    def overtaken(self, call: RemoteCall, work: Work) -> Any:
        """The daemon is suspended until its reservation was cancelled and has ended; then its call arrives."""
        suspend(call.pid)
        try:
            preparing = [r for r in self._store.observe().reservations if r.id in repr(call.arguments)]
            for record in preparing:
                self._end_meanwhile(record.id, call.pid)
            return work()
        finally:
            os.kill(call.pid, signal.SIGCONT)

    def _end_meanwhile(self, reservation_id: str, pid: int) -> None:
        """Cancel it, and wait until it has ended; not for long: the suspended daemon may have locked rows."""
        deadline = time.monotonic() + PATIENCE_S
        while not self._cancel(reservation_id, pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        while not self._has_ended(reservation_id) and time.monotonic() < deadline:
            time.sleep(0.05)

    def _cancel(self, reservation_id: str, pid: int) -> bool:
        """Cancel by the other daemon; False if that one is just starting."""
        operator = Client(str(self._daemons.other_socket(pid)), timeout_s=1)
        try:
            operator.cancel(reservation_id)
        except ProviderUnavailable:
            return False
        except RequestError:
            # Its owner was faster.
            return True
        finally:
            operator.close()
        return True

    def _has_ended(self, reservation_id: str) -> bool:
        record = self._store.find_reservation(reservation_id)
        return record is not None and record.state is State.ENDED

    def suspended_before(self, call: RemoteCall, work: Work) -> Any:
        """The daemon does not run until the other one leads, and its call arrives late."""
        suspend(call.pid)
        try:
            time.sleep(TAKEN_OVER_S)
            return work()
        finally:
            os.kill(call.pid, signal.SIGCONT)

    def suspended_after(self, call: RemoteCall, work: Work) -> Any:
        """The call is carried out, and the daemon does not run until the other one leads."""
        value = work()
        suspend(call.pid)
        time.sleep(TAKEN_OVER_S)
        os.kill(call.pid, signal.SIGCONT)
        return value

    def refused(self, call: RemoteCall, work: Work) -> Any:
        """The call fails for good, which the daemon hears when the other one leads."""
        suspend(call.pid)
        time.sleep(TAKEN_OVER_S)
        os.kill(call.pid, signal.SIGCONT)
        raise ProviderRefused("no such device")

    def deposed(self, call: RemoteCall, work: Work) -> Any:
        """The lease ends early, so that both daemons believe that they lead; the call arrives late."""
        self._store.expire_lease(lease.NAME)
        time.sleep(TAKEN_OVER_S)
        return work()

    def killed_before(self, call: RemoteCall, work: Work) -> None:
        """The daemon is killed, and its call does not arrive."""
        self._daemons.kill(call.pid)

    def killed_after(self, call: RemoteCall, work: Work) -> None:
        """The daemon is killed after its call was carried out."""
        work()
        self._daemons.kill(call.pid)
