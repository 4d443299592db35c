"""A thousand reservations that end in one minute, on boxes whose processes take their whole grace.

In one process that lives on: it is about the threads of its runner. The same ends in a cold world are in
`test_control_long_queue`.
"""

from __future__ import annotations

import threading
import time
from datetime import timedelta

from tests.builders import a_node
from tests.waiting import eventually
from tests.world import HOUR, World

from odc.adapters.system.thread_runner import ThreadRunner
from odc.domain.limits import Limits

NUMBER = 1000
THREADS = 4


def test_a_thousand_boxes_end_together_without_a_thread_for_each() -> None:
    nodes = [a_node(f"node-{number:03}") for number in range(NUMBER // 8)]
    world = World(nodes, limits=Limits(live_per_user=NUMBER))
    for number in range(NUMBER):
        world.ask(name=f"r{number}")
    world.settle()
    world.cluster.use_grace(world.clock)
    runner = ThreadRunner(lambda: world.ports.wake.notify(), threads=THREADS)
    world.build(runner=runner)
    loop = world.plane.pass_loop("this")
    passes = threading.Thread(target=loop.run)
    before = threading.active_count()
    world.clock.advance(HOUR)
    passes.start()
    try:
        eventually("every box was asked to end", lambda: world.cluster.ending() == NUMBER)
        # The passes, the runner's timer is counted already.
        assert threading.active_count() <= before + THREADS + 1
        assert len(world.cluster.peek()) == NUMBER
        world.clock.advance(world.policy.grace)
        begun = time.monotonic()
        eventually("every box is gone", lambda: not world.cluster.peek())
        assert time.monotonic() - begun < timedelta(minutes=1).total_seconds()
        eventually("every reservation has ended", lambda: not world.store.observe().reservations)
    finally:
        loop.stop()
        passes.join()
        runner.close()
