"""Kills for memory as the kernel tells of them: cgroup v1 and v2, and its log."""

from __future__ import annotations

from pathlib import Path

import pytest

from odc.adapters.engine.memory_kills import KernelLog, MemoryWatch, counter_file, read_count
from odc.domain.box import MemoryKills

UID = "23e2a935ed528fdb3ac4d1a98478b6b52a4b08cda3158021deb49f4096d15d61"
V1_MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 {root} /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
V2_MOUNTS = """\
24 19 0:22 / /proc rw,nosuid - proc proc rw
29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
"""
LINE = (
    "6,2041,957701512,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=libpod-{uid},mems_allowed=0,"
    "oom_memcg=/libpod_parent/libpod-{uid},task_memcg=/libpod_parent/libpod-{uid},task={task},pid=7158,uid={user}\n"
)


def proc_with(folder: Path, groups: str, mounts: str) -> Path:
    (folder / "70").mkdir()
    (folder / "self").mkdir()
    (folder / "70/cgroup").write_text(groups)
    (folder / "self/mountinfo").write_text(mounts)
    return folder


@pytest.mark.parametrize("root", ["/", "/docker/abc"])
def test_a_v1_counter_is_found_also_where_only_a_part_is_mounted(tmp_path: Path, root: str) -> None:
    group = f"{root.rstrip('/')}/libpod_parent/libpod-{UID}"
    proc = proc_with(tmp_path, f"9:name=systemd:/x\n4:memory:{group}\n0::/other\n", V1_MOUNTS.format(root=root))
    assert counter_file(70, UID, proc) == Path(f"/sys/fs/cgroup/memory/libpod_parent/libpod-{UID}/memory.oom_control")


@pytest.mark.parametrize("below", ["", "/container", "/container/made/below"])
def test_a_v2_counter_is_that_of_the_whole_box(tmp_path: Path, below: str) -> None:
    scope = f"/machine.slice/libpod-{UID}.scope"
    proc = proc_with(tmp_path, f"0::{scope}{below}\n", V2_MOUNTS)
    assert counter_file(70, UID, proc) == Path(f"/sys/fs/cgroup{scope}/memory.events")


def test_without_a_memory_cgroup_the_counter_is_unknown(tmp_path: Path) -> None:
    proc = proc_with(tmp_path, "4:memory:/elsewhere\n", V1_MOUNTS.format(root="/docker/abc"))
    assert counter_file(70, UID, proc) is None
    assert counter_file(71, UID, proc) is None


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3),
        ("low 0\nhigh 2\nmax 41\noom 5\noom_kill 4\noom_group_kill 0\n", 4),
        ("oom_kill_disable 0\nunder_oom 0\n", None),
        ("", None),
    ],
)
def test_both_kernels_counters_are_read(tmp_path: Path, text: str, count: int | None) -> None:
    path = tmp_path / "counter"
    path.write_text(text)
    assert read_count(path) == count
    assert read_count(tmp_path / "missing") is None


@pytest.mark.parametrize(
    "task", ["python", "a b", "x,pid=1,uid=0", f",task_memcg={'f' * 4}", "y,task=z", "\x1b[31mred"]
)
# The kernel prints an id above 2**31 as a negative number.
@pytest.mark.parametrize("user", [0, 1000001000, 2485047376 - 2**32], ids=["root", "small", "large"])
def test_the_log_names_the_command_whatever_its_user_calls_it(tmp_path: Path, task: str, user: int) -> None:
    path = tmp_path / "kmsg"
    path.write_text("6,1,1,-;booted\n SUBSYSTEM=net\n" + LINE.format(uid=UID, task=task, user=user))
    log = KernelLog(path)
    log.update()
    (kill,) = log.kills(UID)
    assert kill.command == task.replace("\x1b", "?")
    assert log.kills("0" * 64) == ()


def test_the_counter_counts_and_the_log_says_what_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_text(LINE.format(uid=UID, task="old", user=1000))
    watch = MemoryWatch(KernelLog(path))
    now = int(path.stat().st_mtime)
    entry = {"Id": UID, "Pid": 0, "StartedAt": now + 10**9, "State": "exited", "ExitCode": 137}
    watch.begin(frozenset({UID}))
    assert watch.of(entry, lambda: False) == MemoryKills(life=str(now + 10**9), count=0)
    assert watch.of(entry, lambda: True) == MemoryKills(life=str(now + 10**9), count=1)
    assert watch.of(entry | {"StartedAt": -62135596800}, lambda: True) is None
    with path.open("a") as log:
        log.write(LINE.format(uid=UID, task="train", user=1000))
    watch.begin(frozenset({UID}))
    kills = watch.of(entry | {"StartedAt": now}, lambda: False)
    assert kills is not None
    assert (kills.count, kills.command) == (1, "train")
    assert kills.last_at is not None


def test_a_log_that_cannot_be_read_is_not_a_fault(tmp_path: Path) -> None:
    log = KernelLog(tmp_path / "missing")
    log.update()
    assert log.kills(UID) == ()
    (tmp_path / "folder").mkdir()
    broken = KernelLog(tmp_path / "folder")
    broken.update()
    assert broken.kills(UID) == ()
