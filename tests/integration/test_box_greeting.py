"""The greeting at login, in every shell."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from tests.box_root import Root
from tests.unit.cli.screen import a_view

from odc.api.messages.storage import DiskView
from odc.cli.show_screen import disk_text


def test_the_greeting_tells_the_name_the_gpus_and_the_end(root: Root) -> None:
    root.put("run/odc/expires_at", f"{int(time.time()) + 8 * 3600 + 30}\n")
    done = root.run("motd")
    assert (done.returncode, done.stderr) == (0, "")
    assert "train   2 x h100   ? CPUs" in done.stdout
    assert "(in 8 h)   disk proj" in done.stdout
    assert "SIMULATED" not in done.stdout


@pytest.mark.parametrize(
    ("seconds", "told"), [(245, "(in 4 min)"), (3600 * 2 + 65 * 60 + 5, "(in 3 h 5 min)"), (-70, "(in 0 min)")]
)
def test_the_greeting_tells_how_long_it_goes_on(root: Root, seconds: int, told: str) -> None:
    root.put("run/odc/expires_at", f"{int(time.time()) + seconds}\n")
    assert told in root.run("motd").stdout


def test_the_end_is_told_with_its_zone_and_with_the_day_when_it_is_not_today(root: Root) -> None:
    now = int(time.time())
    days = {}
    for seconds in (30, 24 * 3600):
        ends = now + seconds
        root.put("run/odc/expires_at", f"{ends}\n")
        days[seconds] = root.run("motd", TZ="UTC").stdout
        assert f"{time.strftime('%H:%M', time.gmtime(ends))} UTC (in " in days[seconds]
    assert f"ends {time.strftime('%a', time.gmtime(now + 24 * 3600))} " in days[24 * 3600]


def test_the_greeting_says_what_was_killed_for_memory(root: Root) -> None:
    assert "memory" not in root.run("motd").stdout
    for name, value in {"oom": "1", "oom_at": "1795700848", "oom_command": "python train"}.items():
        root.put(f"run/odc/{name}", value + "\n")
    assert "  out of memory 13:47: the kernel killed python train (1 time)\n" in root.run("motd").stdout
    for name, value in {"oom": "12", "oom_at": "", "oom_command": ""}.items():
        root.put(f"run/odc/{name}", value + "\n")
    assert "  out of memory before: the kernel killed a process (12 times)\n" in root.run("motd").stdout


@pytest.mark.parametrize(
    ("state", "told"),
    [("runs", "startup.sh still runs"), ("3", "failed with code 3"), ("124", "ended after 30 min"), ("0", "")],
)
def test_the_greeting_says_how_the_startup_script_goes(root: Root, state: str, told: str) -> None:
    root.put("run/odc-box/startup", f"{state}\n")
    out = root.run("motd").stdout
    assert told in out
    assert ("startup" in out) == bool(told)


def test_the_greeting_says_when_gpus_are_simulated(root: Root) -> None:
    root.put("run/odc/simulated", "")
    assert "2 x h100 SIMULATED" in root.run("motd").stdout


def test_the_greeting_counts_processors_as_people_do(root: Root) -> None:
    assert "2 x h100   1 CPU, 4.2 GiB" in root.run("motd", ODC_CPUS="1", ODC_MEMORY_GIB="4.2").stdout
    assert "2 x h100   12 CPUs, 4.2 GiB" in root.run("motd", ODC_CPUS="12", ODC_MEMORY_GIB="4.2").stdout


GIB = 2**30
SIZES = (
    0,
    1,
    1023,
    69_000,
    2**20,
    5 * 2**20,
    GIB // 2 - 1,
    GIB // 2,
    300 * 2**20,
    9 * GIB,
    10 * GIB - 1,
    53_100_000_000,
)


@pytest.mark.parametrize("used", SIZES)
def test_the_greeting_and_gpu_dev_show_tell_the_same_sizes(root: Root, used: int) -> None:
    size = 53_110_000_000  # 49.46 GiB
    root.put("run/odc/disk_use", f"{size} {used}\n")
    disk = DiskView(name="proj", size_bytes=size, used_bytes=used, created_at=datetime.now(UTC))
    told = disk_text(a_view(disk="proj"), datetime.now(UTC), disk).partition(", ")[2].partition(", no")[0]
    greeting = root.run("motd").stdout
    assert f"disk proj, {told if used else '0 of 49 GiB'}\n" in greeting


def test_an_end_that_is_not_known_is_not_told(root: Root) -> None:
    root.put("run/odc/expires_at", "soon\n")
    done = root.run("motd")
    assert (done.returncode, "ends" in done.stdout) == (0, False)
