"""The test cluster by hand: `python -m tests.cluster up`."""

from __future__ import annotations

import argparse
import sys
import time

from tests.cluster import lifecycle, programs
from tests.cluster.layout import CLUSTERS, Layout, default_number


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("command", choices=["build", "up", "down", "status"])
    parser.add_argument("--number", type=int, default=default_number(), help="of the cluster on this machine")
    asked = parser.parse_args()
    if not 0 <= asked.number < CLUSTERS:
        parser.error(f"--number must be 0 to {CLUSTERS - 1}")
    layout = Layout(asked.number)
    try:
        return COMMANDS[asked.command](layout)
    except (programs.BuildError, AssertionError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1


def _build(layout: Layout) -> int:
    programs.build_all(_say)
    return 0


def _up(layout: Layout) -> int:
    programs.build_all(_say)
    if lifecycle.is_up(layout):
        _say(f"cluster {layout.number} is already running")
    else:
        began = time.monotonic()
        lifecycle.up(layout)
        _say(f"cluster {layout.number} is ready after {time.monotonic() - began:.1f} s")
    _say(f"  use it     export KUBECONFIG={layout.kubeconfig} PATH={programs.GROUPS[0].folder}:$PATH")
    _say(f"  logs       {layout.logs}")
    _say("  stop it    make cluster-down")
    return 0


def _down(layout: Layout) -> int:
    lifecycle.down(layout)
    return 0


def _status(layout: Layout) -> int:
    up = lifecycle.is_up(layout)
    missing = ", ".join(programs.missing())
    _say(f"cluster {layout.number}: {'ready' if up else 'not ready'}")
    if missing:
        _say(f"not built: {missing}")
    return 0 if up else 1


def _say(line: str) -> None:
    print(line, flush=True)


COMMANDS = {"build": _build, "up": _up, "down": _down, "status": _status}

if __name__ == "__main__":
    sys.exit(main())
