"""The operator's commands with the installed `odc`: up, down, serve, image build; and what settings files may hold."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.e2e.cloud import Cloud, Person, destroy, make_cloud, processes_of
from tests.e2e.operated import left_of, reserve, stranger
from tests.image import IMAGE
from tests.waiting import eventually

from odc.operator.daemon_state import only_one
from odc.operator.host_claims import one_command
from odc.operator.settings import Settings

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]


def up(cloud: Cloud, *options: str) -> list[str]:
    """What `odc up` says, without warnings: repairs that earlier tests had this cloud make are told for some time."""
    lines = cloud.odc("up", *options).out.splitlines()
    return [line for line in lines if not line.startswith("warning: lxcfs had died")]


def test_up_says_what_there_is_what_is_not_in_effect_and_what_to_type(spare: Cloud) -> None:
    again = up(spare)
    assert again[:2] == ["It is up already.", "ODC is up: 4 x cpu-x86, 8 x h100, 4 x t4 (SIMULATED)"]
    assert again[2].startswith("  disks    btrfs file of 6 GiB, ")
    odc = f"odc --config {spare.config}"
    use = f"Next: gpu-dev --endpoint unix://{spare.socket} reserve"
    assert again[-3:] == [f"Check: {odc} doctor", f"Stop: {odc} down", use]
    other = up(spare, "--simulate", "t4=1x4")
    was = 'simulate = "h100=1x8,t4=1x4,cpu-x86=1x4"'
    assert other[:2] == ["It is up already.", f'Not in effect: simulate = "t4=1x4" (it runs with {was})']
    how = other[2].removeprefix("To use other settings: ").removesuffix("   (boxes go on)")
    text = spare.config.read_text()
    try:
        done = subprocess.run(["sh", "-c", f"PATH={spare.bin}:$PATH; {how}"], capture_output=True, text=True)
        assert "ODC is up: 4 x t4 (SIMULATED)\n" in done.stdout, done
        assert f'Wrote simulate = "t4=1x4" to {spare.config}   ' in done.stdout
        assert "Not in effect" not in spare.odc("up").out
        head, table, tail = spare.config.read_text().partition("[limits]\n")
        spare.config.write_text(f"{head}[limits]\ngpus_per_user = 3\n{tail if table else ''}")
        assert up(spare)[1].startswith("Not in effect: limits.gpus_per_user = 3 (it runs with ")
    finally:
        spare.config.write_text(text)
        spare.odc("down")


def test_options_are_written_to_the_settings_file_and_hold_until_others_are_given(bin_folder: Path) -> None:
    cloud = make_cloud(bin_folder, number=3)
    text = cloud.config.read_text()
    text = "# ours\n" + "".join(line for line in text.splitlines(True) if not line.startswith("simulate"))
    cloud.config.write_text(text)
    try:
        up = cloud.odc("up", "--simulate", "t4=1x4").out
        assert f'Wrote simulate = "t4=1x4" to {cloud.config}   (the machine\'s own GPUs: odc ' in up
        assert "4 x t4 (SIMULATED)" in up
        assert sorted(cloud.config.read_text().splitlines()) == sorted([*text.splitlines(), 'simulate = "t4=1x4"'])
        cloud.odc("down")
        again = cloud.odc("up").out
        assert "4 x t4 (SIMULATED)" in again
        assert "Wrote" not in again
        assert "Not in effect" not in cloud.odc("up").out
        cloud.odc("down")
        unset = cloud.odc("up", "--simulate", "", check=False)
        assert (unset.code, unset.err.splitlines()[0]) == (2, "error: --simulate is empty")
        assert "SIMULATED" not in cloud.odc("up", "--simulate", "none").out
        assert 'simulate = ""\n' in cloud.config.read_text()
        cloud.odc("down")
        assert "SIMULATED" not in cloud.odc("up").out
    finally:
        destroy(cloud)


def test_options_that_an_earlier_version_remembered_come_into_the_settings_file(bin_folder: Path) -> None:
    cloud = make_cloud(bin_folder, number=3)
    lines = cloud.config.read_text().splitlines(True)
    cloud.config.write_text("".join(line for line in lines if not line.startswith("simulate")))
    cloud.state.mkdir(mode=0o700)
    (cloud.state / "typed.json").write_text('{"simulate": "t4=1x4"}')
    try:
        up = cloud.odc("up").out
        assert up.startswith(f'Wrote simulate = "t4=1x4" to {cloud.config}: an earlier version of ODC remembered it')
        assert "4 x t4 (SIMULATED)" in up
        assert not (cloud.state / "typed.json").exists()
    finally:
        destroy(cloud)


def test_what_needs_root_is_refused_to_others_with_the_whole_command(spare: Cloud, dora: Person) -> None:
    for command in ("up", "down --all", "serve", "backup records.db", "restore .bashrc", "image build"):
        done = dora.run("odc", "--config", str(spare.config), *command.split())
        assert (done.code, done.out) == (2, "")
        told = ["error: a cloud for all users of the machine is run by root"]
        assert done.err.splitlines() == [*told, f"  as root   sudo odc --config {spare.config} {command}"]
    assert spare.is_ready()


def test_after_down_a_box_goes_on_and_down_all_leaves_nothing_but_records_and_disks(spare: Cloud, dora: Person) -> None:
    reserve(dora, "work", disk="kept")
    down = f"The daemon is down; boxes go on. Start it again: odc --config {spare.config} up\n"
    assert spare.odc("down").out == down
    assert spare.odc("down").out.startswith("The daemon is down already; boxes go on.")
    assert dora.in_box("work", "cat file").out == "work\n"
    dora.in_box("work", "echo the last second >> file")
    refused = spare.odc("down", "--all", check=False)
    assert (refused.code, refused.out) == (2, "")
    assert "error: this ends every reservation of every user; confirm it with --yes" in refused.err
    assert f"odc --config {spare.config} down --all --yes\n" in refused.err
    told = spare.odc("down", "--all", "--yes").out
    assert "the daemon is started for that" in told
    assert told.endswith("Everything is down. Records and disks are kept.\n")
    assert left_of(spare) == []
    assert spare.odc("down", "--all", "--yes").out == "Everything is down. Records and disks are kept.\n"
    quiet = f"The daemon is down already, and no reservation is left. Start it: odc --config {spare.config} up\n"
    assert spare.odc("down").out == quiet
    spare.odc("up")
    assert "work" in dora.ok("list", "--all")
    ended = dora.view("work")
    assert (ended["state"], ended["snapshot"]["verified"]) == ("cancelled", True)
    files = [path.read_text() for path in (spare.state / "disks/volumes").glob("*/home/file")]
    assert "work\nthe last second\n" in files


@pytest.mark.parametrize("mistake", ['simulat = "t4=1x4"', "this is no TOML"])
def test_down_stops_a_daemon_whose_settings_file_has_a_mistake_since(spare: Cloud, mistake: str) -> None:
    text = spare.config.read_text()
    spare.config.write_text(f"{mistake}\n{text}")
    try:
        done = spare.odc("down")
        assert f"warning: {'the settings in ' if 'no TOML' in mistake else ''}{spare.config}" in done.out
        assert "The daemon is down; boxes go on." in done.out
        assert not spare.is_ready()
        refused = spare.odc("up", check=False)
        assert refused.code == 2
    finally:
        spare.config.write_text(text)


def test_of_two_starts_at_once_one_writes_its_options_and_the_other_waits(spare: Cloud) -> None:
    text = spare.config.read_text()
    spare.odc("down", "--all", "--yes")
    command = [str(spare.bin / "odc"), "--config", str(spare.config), "up", "--disks", str(spare.state / "disks")]
    try:
        starts = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        told = [start.communicate(timeout=120)[0] for start in starts]
        assert [start.returncode for start in starts] == [0, 0]
        assert sorted("Wrote disks" in said for said in told) == [False, True]
        assert sorted("It is up already" in said for said in told) == [False, True]
    finally:
        spare.config.write_text(text)
        # The daemon must not go on with the option that the file does not have any more.
        spare.odc("down", check=False)


def test_what_a_killed_start_wrote_is_named_by_the_next(spare: Cloud) -> None:
    text = spare.config.read_text()
    spare.odc("down", "--all", "--yes")
    command = [str(spare.bin / "odc"), "--config", str(spare.config), "up", "--disks", str(spare.state / "disks")]
    try:
        start = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        eventually("it has written", lambda: spare.config.read_text() != text)
        start.kill()
        start.wait()
        told = spare.odc("up").out
        assert (
            f'was killed before the cloud was ready. It wrote disks = "{spare.state}/disks" to {spare.config}.' in told
        )
        assert spare.is_ready()
        assert "was killed" not in spare.odc("up").out
    finally:
        spare.config.write_text(text)
        # The daemon must not go on with the option that the file does not have any more.
        spare.odc("down", check=False)


def test_a_storage_that_was_unmounted_under_a_box_is_named_and_mounted_again(spare: Cloud, dora: Person) -> None:
    reserve(dora, "work", disk="under")
    disks = spare.state / "disks"
    subprocess.run(["umount", "--lazy", str(disks)], check=True)
    eventually("status names it", lambda: "warning: the maintenance of the disk storage fails" in dora.ok("status"))
    assert dora.in_box("work", "echo more >> file && sync && cat file").out == "work\nmore\n"
    dora.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "next", "--disk", "other", "--no-wait", "--yes")
    again = f"odc --config {spare.config} down && sudo odc --config {spare.config} up"
    assert f"run: sudo {again}\n" in spare.odc("doctor", check=False).out
    spare.odc("down")
    spare.odc("up")
    dora.until("next", "active")
    dora.ok("cancel", "work", "--yes")
    ended = dora.until("work", "cancelled")
    assert ended["snapshot"]["verified"]
    assert "work\nmore\n" in [path.read_text() for path in disks.glob("volumes/*/home/file")]


def test_serve_is_the_daemon_in_the_foreground_and_there_is_one(spare: Cloud, dora: Person) -> None:
    spare.odc("down")
    command = [str(spare.bin / "odc"), "--config", str(spare.config), "serve"]
    daemon = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        eventually("it is ready", spare.is_ready)
        reserve(dora, "on")
        second = spare.odc("serve", check=False)
        assert second.code == 1
        assert f"error: process {daemon.pid} serves {spare.state} already" in second.err
        assert f"stop it   odc --config {spare.config} down" in second.err
        assert dora.view("on")["state"] == "active"
    finally:
        daemon.terminate()
        assert daemon.wait(30) == 0
    assert dora.in_box("on", "cat file").out == "on\n"


def test_a_current_image_is_not_built_again_and_the_first_command_leaves_a_closed_folder(spare_cloud: Cloud) -> None:
    told = stranger(spare_cloud, "fresh", image=IMAGE).odc("image", "build").out
    assert told.startswith(f"The image {IMAGE} is current; nothing to do.")
    assert (spare_cloud.folder / "fresh").stat().st_mode & 0o777 == 0o700
    assert processes_of([spare_cloud.folder / "fresh"]) == []


def test_a_state_folder_that_is_open_to_others_is_refused(spare_cloud: Cloud) -> None:
    folder = spare_cloud.folder / "open"
    folder.mkdir(mode=0o755)
    refused = stranger(spare_cloud, "open").odc("up", check=False)
    assert refused.code == 1
    assert f"the state folder {folder} is open to users other than root" in refused.err
    assert f"sudo chmod 700 {folder}" in refused.err
    assert list(folder.iterdir()) == []


def test_a_user_in_admins_sees_and_ends_what_is_anothers(spare: Cloud, dora: Person, olga: Person) -> None:
    key = reserve(dora, "hers")
    assert "hers" in olga.ok("list", "--user", "all")
    assert olga.view(key)["owner"] == dora.name
    olga.ok("cancel", key, "--yes")
    dora.until(key, "cancelled")
    assert f"{olga.name}  asked to end it\n" in dora.ok("show", key, "--history")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('simulat = "t4=1x4"', ["there is no setting 'simulat'", 'did you mean   simulate = "t4=1x4"']),
        ('dns = ["127.0.0.53"]', ['dns = ["127.0.0.53"] is not allowed', "not this machine's loopback"]),
        ('oh_my_zsh = "ext::sh -c x"', ["oh_my_zsh", "is not allowed", "https://"]),
        ('oh_my_zsh_commit = "master"', ["oh_my_zsh_commit", "40 hexadecimal digits"]),
        ("ports = [70000, 70001]", ["ports = [70000, 70001] is not allowed", "from 1024 to 65535"]),
        ('ports = "30000-31999"', ["ports: expected a list, got text", "for example   ports = [30000, 31999]"]),
        ('simulate = "h100"', ["'h100' is not TYPE=NODESxGPUS", "up --simulate h100=2x8,t4=1x4"]),
        ("[limits]\nattempt = 2", ["there is no setting 'attempt' in [limits]", "attempts = 2"]),
        (
            '[[types]]\nname = "rtx4090"\ncpus = 64',
            ["[types] 'cpus' is no longer a setting; it never had an effect", "delete the line   cpus = 64"],
        ),
        ("this is no TOML", ["are not valid TOML"]),
    ],
)
def test_a_settings_file_that_cannot_work_is_refused_by_name_and_nothing_is_started(
    bin_folder: Path, tmp_path: Path, line: str, told: list[str]
) -> None:
    config = tmp_path / "odc.toml"
    # What must never be used: nothing of it may be made.
    config.write_text(f'cloud = "never"\nstate = "{tmp_path}/state"\nsocket = "{tmp_path}/odc.sock"\n{line}\n')
    command = [str(bin_folder / "odc"), "--config", str(config), "up"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    for words in told:
        assert words in done.stderr
    assert str(config) in done.stderr or "--simulate" in done.stderr
    assert list(tmp_path.iterdir()) == [config]


def test_up_waits_for_a_down_that_runs_and_starts_the_cloud_again(spare: Cloud) -> None:
    odc = [str(spare.bin / "odc"), "--config", str(spare.config)]
    for stop in (("down",), ("down", "--all", "--yes")):
        stopping = subprocess.Popen([*odc, *stop], stdout=subprocess.PIPE, text=True)
        starting = subprocess.Popen([*odc, "up"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        stopped, started = (process.communicate(timeout=120)[0] for process in (stopping, starting))
        assert (stopping.returncode, starting.returncode) == (0, 0), stopped + started
        # Whichever came first, the other one waited for it.
        assert spare.is_ready() == ("It is up already." not in started)
        spare.odc("up")


def test_up_starts_the_cloud_again_when_the_daemon_was_ending(spare: Cloud) -> None:
    spare.odc("down")
    command = [str(spare.bin / "odc"), "--config", str(spare.config), "up"]
    with only_one(spare.state):  # as a daemon that does not answer any more
        starting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert starting.stdout is not None
        assert starting.stdout.readline() == "It is up already.\n"
    said = starting.communicate(timeout=120)[0]
    assert starting.returncode == 0, said
    assert spare.is_ready()


@contextmanager
def suspended(cloud: Cloud) -> Iterator[None]:
    """Its daemon does not run."""
    daemon = cloud.daemon_pid()
    os.kill(daemon, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGCONT)


def test_a_suspended_daemon_is_named_with_the_commands_that_restart_it(spare: Cloud) -> None:
    odc = f"odc --config {spare.config}"
    with suspended(spare):
        began = time.monotonic()
        refused = spare.odc("up", check=False)
        assert time.monotonic() - began < 15
        assert f"error: the ODC daemon is running but does not answer on {spare.socket}\n" in refused.err
        assert f"restart it   {odc} down && {odc} up\n" in refused.err
        began = time.monotonic()
        assert f"run: sudo {odc} down && sudo {odc} up\n" in spare.odc("doctor", check=False).out
        assert time.monotonic() - began < 30


@pytest.mark.parametrize("command", ["down", "down --all --yes"])
def test_a_suspended_daemon_is_stopped_by_down(spare: Cloud, dora: Person, command: str) -> None:
    reserve(dora, "on")
    with suspended(spare):
        spare.odc(*command.split())
    assert not spare.is_ready()
    assert bool(spare.boxes()) == (command == "down")


@pytest.mark.parametrize("command", ["up", "down", "down --all --yes", "rename NAME", "restore FILE"])
def test_commands_that_start_stop_or_replace_a_cloud_wait_for_each_other(
    spare: Cloud, tmp_path: Path, command: str
) -> None:
    backup = tmp_path / "records.db"
    spare.odc("backup", str(backup))
    if command != "down":
        spare.odc("down", "--all", "--yes")
    words = command.replace("NAME", spare.name).replace("FILE", str(backup)).split()
    odc = [str(spare.bin / "odc"), "--config", str(spare.config)]
    with one_command("up", Settings(state=str(spare.state)), print):
        waiting = subprocess.Popen([*odc, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == f"Waiting for odc up (process {os.getpid()}) to finish.\n"
        assert spare.is_ready() == (command == "down")
    said = waiting.communicate(timeout=120)[0]
    assert waiting.returncode == 0, said
    assert spare.is_ready() == (command == "up")


def test_a_part_that_is_not_installed_is_the_reason_that_up_gives(spare_cloud: Cloud) -> None:
    cloud = stranger(spare_cloud, "driverless", database="postgresql://nobody@/nothing?host=/tmp")
    refused = cloud.odc("up", check=False)
    assert refused.code == 1
    assert "error: the ODC daemon did not start: the settings need psycopg, which is not installed\n" in refused.err
    assert "   pip install 'open-developer-cloud[server,postgresql]'\n" in refused.err
