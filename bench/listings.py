"""How much memory and time the listing of a large disk takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.cloud import CannotMeasure
from bench.measuring import in_turns, milliseconds
from bench.table import Row

FILES = 1_000_000
FOLDERS = 1000
LARGEST = 200_000
"""So many of the files are in one folder."""
CHILD = """
import sys, time
from pathlib import Path
from odc.adapters.localdisk.blob_store import FileBlobStore
from odc.adapters.localdisk.file_listing import list_below
from odc.domain.file_listing import CUT, decode_listing, encode_listing

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":")) * 1024 / 1e6

blobs = FileBlobStore(Path(sys.argv[2]))
idle, start = memory("VmRSS"), time.perf_counter()
blobs.put("listing", encode_listing(list_below(Path(sys.argv[1]), seconds=600)))
took, grown = time.perf_counter() - start, memory("VmHWM") - idle
count, last = 0, None
for last in decode_listing(blobs.read("listing")):
    count += 1
print(grown, memory("VmHWM") - idle, 1000 * took, count, last == CUT)
"""


def rows() -> list[Row]:
    """A home of a million files."""
    with tempfile.TemporaryDirectory(prefix="odc-bench-", dir="/var/tmp") as folder:
        top = Path(folder) / "home"
        if shutil.disk_usage(folder).free < 2**31 or os.statvfs(folder).f_favail < 2 * FILES:
            raise CannotMeasure(f"{folder} has no room for a million files")
        count = _fill(top)
        # Both read the same folders, so that both find them in the kernel's cache.
        figures: list[list[float]] = []
        took = in_turns({"floor": lambda: _walk(top), "ours": lambda: _list(top, Path(folder) / "blobs", figures)}, 1)
        grown, read, _, listed, cut, size = figures[-1]
        if cut or listed != count:
            raise CannotMeasure(f"{listed:.0f} of {count} entries were listed")
    note = (
        f"beyond the memory of the idle process; {FOLDERS} folders, one of them with {LARGEST:,} files; "
        f"reading the listing too: {read:.0f} MB; stored: {size / 1e6:.1f} MB; time against `find -ls` of the same"
    )
    return [
        Row("memory to list 1,000,000 files", "MB", grown, 50, note=note),
        Row("time to list 1,000,000 files", "ms", took["ours"], 3, took["floor"], of_floor=True, note=note),
    ]


def _fill(top: Path) -> int:
    """Make the files; return how many entries there are."""
    in_folders = (FILES - LARGEST) // (FOLDERS - 1)
    count = 0
    for folder in range(FOLDERS):
        place = top / f"dataset/part-{folder:04}"
        place.mkdir(parents=True)
        for number in range(in_folders if folder else LARGEST):
            os.mknod(place / f"image_{number:06}.jpeg")
        count += 1 + (in_folders if folder else LARGEST)
    return count + 1


def _walk(top: Path) -> float:
    return milliseconds(lambda: subprocess.run(["find", str(top), "-ls"], stdout=subprocess.DEVNULL, check=True))


def _list(top: Path, blobs: Path, figures: list[list[float]]) -> float:
    """List in a process of its own; return how long that took."""
    command = [sys.executable, "-c", CHILD, str(top), str(blobs)]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    size = (blobs / "listing").stat().st_size
    figures.append([*map(float, words[:4]), float(words[4] == "True"), float(size)])
    return figures[-1][2]
