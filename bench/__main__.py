"""Measure, and print the table. Run by `make bench`.

Exit code 0 if everything asked for was measured, whatever the verdicts; 1 if something could not be.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from bench import commands, listings, live, plans, questions, queue, starts
from bench.cloud import BenchCloud, CannotMeasure, bench_cloud
from bench.table import Row, table

ALONE: dict[str, Callable[[], list[Row]]] = {
    "help": commands.help_rows,
    "plan": plans.rows,
    "live": live.rows,
    "queue": queue.rows,
    "questions": questions.rows,
    "listing": listings.rows,
}
ON_A_CLOUD: dict[str, Callable[[BenchCloud], list[Row]]] = {
    "idle": commands.idle_rows,
    "list": commands.list_rows,
    "start": starts.rows,
}
PARTS = ("help", "idle", "list", "start", "plan", "live", "queue", "questions", "listing")


def main() -> int:
    """Measure the parts asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="bench", description="Figures beside their floors, against the budgets.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; else all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    asked = parser.parse_args()
    unknown = sorted(set(asked.parts) - set(PARTS))
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    # As installed: an interpreter that keeps what it has compiled. The first turn, which does not count, compiles.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    wanted = [part for part in PARTS if part in asked.parts or not asked.parts]
    rows, faults = measure(wanted)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}\n")
    print(table(rows))
    for part, fault in faults.items():
        print(f"{part} was not measured: {fault}", file=sys.stderr)
    if asked.json:
        asked.json.write_text(json.dumps([figures(row) for row in rows], indent=2) + "\n")
    return 1 if faults else 0


def measure(parts: list[str]) -> tuple[list[Row], dict[str, str]]:
    """The rows of these parts, and why a part could not be measured."""
    rows: list[Row] = []
    faults: dict[str, str] = {}
    with ExitStack() as stack:
        cloud: BenchCloud | None = None
        for part in parts:
            print(f"measuring {part} …", file=sys.stderr, flush=True)
            try:
                if part in ALONE:
                    rows += ALONE[part]()
                else:
                    cloud = cloud or stack.enter_context(bench_cloud())
                    rows += ON_A_CLOUD[part](cloud)
            except CannotMeasure as error:
                faults[part] = str(error)
    return rows, faults


def figures(row: Row) -> dict[str, object]:
    """A row for machines."""
    return {**asdict(row), "ratio": row.ratio, "verdict": row.verdict}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("stopped; everything that the bench made is gone", file=sys.stderr)
        sys.exit(130)
