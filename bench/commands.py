"""How long a command takes, and the idle daemon's memory. The floor of a command: the same interpreter, doing nothing
(`--help`), or asking the same of the daemon and no more (`list`)."""

from __future__ import annotations

import subprocess
import sys

from bench.cloud import BIN, BenchCloud, run
from bench.measuring import in_turns, memory_mb, milliseconds
from bench.table import Row

TURNS = 15
LIVE = 4
ASK = """
import http.client, socket, sys
connection = http.client.HTTPConnection("odc")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
connection.request("GET", "/v1/reservations")
answer = connection.getresponse()
assert answer.status == 200
answer.read()
"""


def help_rows() -> list[Row]:
    """`gpu-dev --help`, which needs no cloud."""
    took = in_turns(
        {
            "floor": lambda: milliseconds(lambda: run([sys.executable, "-c", "pass"])),
            "ours": lambda: milliseconds(lambda: run([BIN / "gpu-dev", "--help"])),
        },
        TURNS,
    )
    note = "floor: python -c pass"
    return [Row("gpu-dev --help", "ms", took["ours"], 100, floor=took["floor"], note=note)]


def list_rows(cloud: BenchCloud) -> list[Row]:
    """`gpu-dev list` while some reservations live: the first runs, the others wait."""
    names = [f"listed{number}" for number in range(LIVE)]
    for name in names:
        wait = "--wait" if name == names[0] else "--no-wait"
        cloud.run("gpu-dev", "reserve", "-t", "h100", "-g", "1", "-h", "1", "-n", name, "--disk", "none", wait)
    took = in_turns(
        {
            "floor": lambda: milliseconds(lambda: cloud.run(sys.executable, "-c", ASK, cloud.socket)),
            "ours": lambda: milliseconds(lambda: cloud.run("gpu-dev", "list")),
        },
        TURNS,
    )
    cloud.end(*reversed(names))
    note = f"{LIVE} live reservations, one of which runs; floor: a Python program that only asks the daemon the same"
    return [Row("gpu-dev list", "ms", took["ours"], 250, floor=took["floor"], note=note)]


def idle_rows(cloud: BenchCloud) -> list[Row]:
    """The control plane's memory while nothing is reserved."""
    daemon, engine = memory_mb(cloud.daemon_pid()), memory_mb(cloud.engine_pid())
    note = (
        f"resident; {daemon['pss']:.0f} MB by proportional share; floor: python -c pass; "
        f"the engine's service is a process of its own ({engine['rss']:.0f} MB)"
    )
    return [Row("daemon memory, idle", "MB", daemon["rss"], 120, floor=bare_interpreter_mb(), note=note)]


def bare_interpreter_mb() -> float:
    """The resident memory of an interpreter that does nothing."""
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            return memory_mb(process.pid)["rss"]
        finally:
            process.kill()
