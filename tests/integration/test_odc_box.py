"""The box's own programs in every shell that this machine has: `odc-box` and the simulated `nvidia-smi`."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from odc.adapters.engine.image import box_files

SHELLS = (["dash"], ["busybox", "sh"], ["bash", "--posix"], ["zsh", "--emulate", "sh"])
HERE = [shell for shell in SHELLS if shutil.which(shell[0])]
PROGRAMS = ("odc-box", "nvidia-smi-simulated", "provision.sh", "apt-get")


@dataclass
class Root:
    """A pretended root file system, and a shell to run the box's programs in."""

    path: Path
    shell: list[str]

    @property
    def home(self) -> Path:
        return self.path / "home/dev"

    def put(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def run(self, *command: str, program: str = "odc-box", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.shell, str(box_files() / program), *command],
            env={"PATH": os.environ["PATH"], "ODC_ROOT": str(self.path), "TZ": "UTC", "LC_ALL": "C", **variables},
            capture_output=True,
            text=True,
            timeout=30,
        )

    def look(self) -> dict[str, tuple[str, int]]:
        """Every file with its content and mode."""
        return {
            str(path.relative_to(self.path)): (path.read_text() if path.is_file() else "", path.lstat().st_mode)
            for path in sorted(self.path.rglob("*"))
        }


@pytest.fixture(params=HERE, ids=lambda shell: shell[0])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Root:
    """A root as ODC's image has it, with a new disk."""
    root = Root(tmp_path, request.param)
    root.put("etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndev:x:1000:1000::/home/dev:/usr/bin/zsh\n")
    root.put("etc/hosts", "127.0.0.1\tlocalhost\n10.0.0.2\ttrain odc-1\n")
    root.put("etc/zsh/zshenv", "# the image's\n")
    root.put("usr/share/odc/skel/.zshrc", 'ZSH_THEME="robbyrussell"\nplugins=(git)\n')
    root.put("usr/share/odc/skel/.venv/bin/pip", "#!/bin/sh\n").chmod(0o755)
    root.put("home/dev/.odc-disk", "d-1\n")
    for name, value in {
        "disk_id": "d-1",
        "name": "train",
        "gpus": "2 x h100",
        "disk": "proj",
        "expires_at": "",
    }.items():
        root.put(f"run/odc/{name}", value + "\n")
    return root


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("shell", HERE, ids=lambda shell: shell[0])
def test_every_shell_reads_the_programs(shell: list[str], program: str) -> None:
    done = subprocess.run([*shell, "-n", str(box_files() / program)], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("marker", [None, "d-2\n", "", "d-1 \n"])
def test_a_box_without_its_own_disk_does_not_start(root: Root, marker: str | None) -> None:
    (root.home / ".odc-disk").unlink()
    if marker is not None:
        root.put("home/dev/.odc-disk", marker)
    before = root.look()
    done = root.run("run")
    assert done.returncode == 78
    assert "expected d-1" in done.stderr
    assert root.look() == before


def test_a_new_home_gets_the_shell_files(root: Root) -> None:
    assert root.run("setup").returncode == 0
    assert (root.home / ".zshrc").read_text() == 'ZSH_THEME="robbyrussell"\nplugins=(git)\n'
    assert os.access(root.home / ".venv/bin/pip", os.X_OK)


def test_setting_up_fifty_times_leaves_the_same_files(root: Root) -> None:
    root.put("run/odc/ca.crt", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    root.put("etc/ssl/certs/ca-certificates.crt", "the system's\n")
    assert root.run("setup").returncode == 0
    first = root.look()
    for _ in range(49):
        assert root.run("setup").returncode == 0
    assert root.look() == first


def test_users_files_are_never_overwritten(root: Root) -> None:
    root.put("home/dev/.zshrc", "mine\n")
    (root.home / ".venv").symlink_to("/elsewhere")
    assert root.run("setup").returncode == 0
    assert (root.home / ".zshrc").read_text() == "mine\n"
    assert (root.home / ".venv").readlink() == Path("/elsewhere")


def test_only_the_loader_of_the_first_version_that_nobody_edited_is_renewed(root: Root) -> None:
    first = subprocess.run(
        ["git", "show", "4a3672d:images/box/skel/.oh-my-zsh/oh-my-zsh.sh"],
        cwd=box_files(),
        capture_output=True,
        text=True,
    ).stdout
    if not first:
        pytest.skip("the first version is not in this clone")
    root.put("usr/share/odc/skel/.oh-my-zsh/oh-my-zsh.sh", "newer\n")
    loader = root.put("home/dev/.oh-my-zsh/oh-my-zsh.sh", first + "# mine\n")
    assert root.run("setup").returncode == 0
    assert loader.read_text() == first + "# mine\n"
    loader.write_text(first)
    assert root.run("setup").returncode == 0
    assert loader.read_text() == "newer\n"


def test_a_shell_file_that_its_user_removed_stays_removed(root: Root) -> None:
    root.run("setup")
    (root.home / ".zshrc").unlink()
    root.run("setup")
    assert not (root.home / ".zshrc").exists()


def test_an_interrupted_set_up_is_finished_by_the_next(root: Root) -> None:
    root.put("home/dev/.odc-new/.venv/half", "")
    assert root.run("setup").returncode == 0
    assert not (root.home / ".odc-new").exists()
    assert sorted(path.name for path in (root.home / ".venv").iterdir()) == ["bin"]


def test_a_step_that_fails_does_not_hold_up_the_others(root: Root) -> None:
    shutil.rmtree(root.home)
    root.put("home/dev", "not a folder\n")
    done = root.run("setup")
    assert done.returncode == 1
    assert "could not set up: home" in done.stderr
    assert (root.path / "etc/profile.d/odc.sh").exists()


def test_an_image_without_the_developer_gets_one(root: Root) -> None:
    root.put("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nubuntu:x:1000:1000::/home/ubuntu:/bin/bash\n")
    (root.path / "etc/sudoers.d").mkdir()
    assert root.run("setup").returncode == 0
    assert "\ndev:x:1000:1000::/home/dev:/bin/sh\n" in (root.path / "etc/passwd").read_text()
    assert (root.path / "etc/shadow").read_text().startswith("dev:*:")
    assert (root.path / "etc/shadow").stat().st_mode & 0o077 == 0
    assert (root.path / "etc/sudoers.d/odc").stat().st_mode & 0o777 == 0o440


def test_the_box_knows_its_own_name_once(root: Root) -> None:
    root.run("setup")
    assert (root.path / "etc/hosts").read_text().count("train") == 1
    root.put("run/odc/name", "trai.\n")
    root.run("setup")
    assert (root.path / "etc/hosts").read_text().endswith("127.0.1.1 trai.\n")


def test_an_operators_certificate_joins_the_systems_once(root: Root) -> None:
    root.put("etc/ssl/certs/ca-certificates.crt", "the system's\n")
    root.put("run/odc/ca.crt", "ours\n")
    root.run("setup")
    root.run("setup")
    assert (root.path / "etc/ssl/certs/ca-certificates.crt").read_text() == "the system's\nours\n"


def test_the_environment_is_data_and_never_evaluated(root: Root) -> None:
    trap = root.path / "evaluated"
    lines = [
        f"A=$(touch {trap})",
        'B=x y "z" \'`',
        "C=",
        "1BAD=x",
        "BAD-NAME=x",
        "no value",
        f"D=;touch {trap}",
        "E=a=b",
    ]
    root.put("run/odc/env", "\n".join(lines))
    root.run("setup")
    profile = (root.path / "etc/profile.d/odc.sh").read_text().replace("/run/odc", str(root.path / "run/odc"))
    root.put("profile.sh", profile)
    shell = ["zsh", "-f"] if root.shell[0] == "zsh" else root.shell
    done = subprocess.run(
        [*shell, "-c", f'. {root.path}/profile.sh; printf "%s|" "$A" "$B" "$C" "$D" "$E" "$PATH"'],
        env={"PATH": os.environ["PATH"], "HOME": "/home/dev"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    expected = [f"$(touch {trap})", 'x y "z" \'`', "", f";touch {trap}", "a=b"]
    assert done.stderr == ""
    assert done.stdout.split("|")[:5] == expected
    assert done.stdout.split("|")[5].startswith("/home/dev/.local/bin:/home/dev/.venv/bin:")
    assert not trap.exists()


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
    root.put("run/odc-sshd/startup", f"{state}\n")
    out = root.run("motd").stdout
    assert told in out
    assert ("startup" in out) == bool(told)


def profile_says(root: Root, what: str, **variables: str) -> str:
    """What a shell prints that has read the profile."""
    root.run("setup")
    text = (root.path / "etc/profile.d/odc.sh").read_text().replace("/run/odc", str(root.path / "run/odc"))
    for folder in ("/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo"):
        text = text.replace(f" {folder}", f" {root.path}{folder}")
    root.put("profile.sh", text)
    shell = ["zsh", "-f"] if root.shell[0] == "zsh" else root.shell
    done = subprocess.run(
        [*shell, "-c", f'. {root.path}/profile.sh; printf "%s|" {what}'],
        env={"PATH": os.environ["PATH"], "HOME": str(root.home), **variables},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done
    return done.stdout


@pytest.mark.parametrize(
    ("term", "then"),
    [("xterm-ours", "xterm-ours"), ("mine", "mine"), ("xterm-new", "xterm-256color"), ("x", "xterm-256color")],
)
def test_an_unknown_terminal_is_taken_for_a_common_one(root: Root, term: str, then: str) -> None:
    root.put("etc/terminfo/x/xterm-ours", "")
    root.put("usr/share/terminfo/x/xterm-256color", "")
    root.put("home/dev/.terminfo/m/mine", "")
    assert profile_says(root, '"$TERM"', TERM=term) == f"{then}|"


def test_without_any_description_a_terminal_keeps_its_name(root: Root) -> None:
    assert profile_says(root, '"$TERM"', TERM="xterm-new") == "xterm-new|"
    assert profile_says(root, '"${TERM:-none}"', TERM="") == "none|"


def test_an_unknown_locale_becomes_one_that_every_system_has(root: Root) -> None:
    known = {"LANG": "C.UTF-8", "LC_TIME": "C"}
    what = '"$LANG" "${LC_ALL:-}" "${LC_TIME:-}"'
    assert profile_says(root, what, **known) == "C.UTF-8||C|"
    assert profile_says(root, what, **known, LC_ALL="xx_YY.UTF-8") == "C.UTF-8|C.UTF-8|C|"
    assert profile_says(root, what, LANG="xx_YY.UTF-8", LC_TIME="yy_ZZ") == "C.UTF-8||C.UTF-8|"


@pytest.mark.parametrize(
    ("arguments", "lists", "fetched"),
    [
        (("install", "-y", "jq"), "", True),
        (("-o", "A=install", "--yes", "upgrade"), "", True),
        (("install", "jq"), "deb.debian.org_debian_dists_bookworm_main_binary-amd64_Packages.lz4", False),
        (("remove", "install"), "", False),
        (("update",), "", False),
        ((), "", False),
    ],
)
def test_the_first_install_fetches_the_package_lists(
    root: Root, arguments: tuple[str, ...], lists: str, fetched: bool
) -> None:
    folder = root.path / "var/lib/apt/lists"
    (folder / "partial").mkdir(parents=True)
    if lists:
        (folder / lists).touch()
    said = root.path / "said"
    root.put("usr/bin/apt-get", f'#!/bin/sh\necho "$@" >> {said}\n').chmod(0o755)
    done = root.run(*arguments, program="apt-get")
    asked = " ".join(arguments) + "\n"
    assert done.returncode == 0
    assert said.read_text() == ("update -qq\n" if fetched else "") + asked
    assert done.stdout == ""


def test_the_greeting_says_when_gpus_are_simulated(root: Root) -> None:
    root.put("run/odc/simulated", "")
    assert "2 x h100 SIMULATED" in root.run("motd").stdout


def test_the_greeting_counts_processors_as_people_do(root: Root) -> None:
    assert "2 x h100   1 CPU, 4.2 GiB" in root.run("motd", ODC_CPUS="1", ODC_MEMORY_GIB="4.2").stdout
    assert "2 x h100   12 CPUs, 4.2 GiB" in root.run("motd", ODC_CPUS="12", ODC_MEMORY_GIB="4.2").stdout


def test_an_end_that_is_not_known_is_not_told(root: Root) -> None:
    root.put("run/odc/expires_at", "soon\n")
    done = root.run("motd")
    assert (done.returncode, "ends" in done.stdout) == (0, False)


def test_a_warning_is_a_file_in_the_home(root: Root) -> None:
    assert root.run("warn", "15").returncode == 0
    assert (root.home / "WARN_EXPIRES_IN_15MIN.txt").read_text() == "train ends in 15 minutes\n"


@pytest.mark.parametrize("minutes", ["", "-1", "x", "5; touch y"])
def test_a_warning_needs_minutes(root: Root, minutes: str) -> None:
    assert root.run("warn", minutes).returncode == 2
    assert list(root.home.glob("WARN*")) == []


def test_only_warnings_that_are_true_stay(root: Root) -> None:
    root.put("run/odc/expires_at", f"{int(time.time()) + 10 * 60}\n")
    for minutes in (5, 15):
        root.run("warn", str(minutes))
    root.run("setup")
    assert [path.name for path in root.home.glob("WARN*")] == ["WARN_EXPIRES_IN_15MIN.txt"]


def test_contents_tells_every_file_apart(root: Root) -> None:
    root.put("home/dev/a b/two\nlines", "12345")
    (root.home / "link").symlink_to("a b")
    entries = sorted(entry.split(" ", 3) for entry in root.run("contents").stdout.split("\0")[:-1])
    assert [(kind, path) for kind, _, _, path in entries] == [("d", "a b"), ("f", "a b/two\nlines"), ("l", "link")]
    assert entries[1][1] == "5"


def test_keys_counts_the_keys_that_open_the_box(root: Root) -> None:
    root.put("run/odc/authorized_keys", "# octocat\nssh-ed25519 AAAA\n\nssh-rsa BBBB\n")
    assert root.run("keys").stdout == "2 keys\n"


@pytest.mark.parametrize("command", [(), ("explode",), ("serve",), ("stop",)])
def test_what_odc_box_does_not_know_it_refuses(root: Root, command: tuple[str, ...]) -> None:
    assert root.run(*command).returncode == 2


@pytest.fixture
def gpus(root: Root) -> Root:
    """A box with three pretended GPUs."""
    for index in (0, 1, 10):
        root.put(f"run/odc-gpus/{index}", f"h100 80GB\n81920\nGPU-{index}\n")
    return root


def test_the_simulated_tool_says_that_it_is(gpus: Root) -> None:
    lines = gpus.run(program="nvidia-smi-simulated").stdout.splitlines()
    assert lines[0].startswith("SIMULATED")
    assert len(lines) == 5


def test_the_simulated_tool_lists_gpus_by_number(gpus: Root) -> None:
    done = gpus.run("-L", program="nvidia-smi-simulated")
    assert done.stdout.splitlines() == [
        f"GPU {index}: h100 80GB (SIMULATED) (UUID: GPU-{place})" for index, place in enumerate((0, 1, 10))
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--query-gpu=index,memory.total", "--format=csv"), "index, memory.total [MiB]\n2, 81920 MiB\n"),
        (("--format=csv,noheader", "--query-gpu=uuid,memory.total"), "GPU-10, 81920 MiB\n"),
        (("--query-gpu=name,uuid,memory.total", "--format=csv,noheader,nounits"), "h100 80GB, GPU-10, 81920\n"),
        (("--query-gpu=driver_version", "--format=csv,noheader"), "[N/A]\n"),
    ],
)
def test_the_simulated_tool_answers_what_scripts_ask(gpus: Root, options: tuple[str, ...], expected: str) -> None:
    assert gpus.run(*options, "-i", "2", program="nvidia-smi-simulated").stdout == expected


@pytest.mark.parametrize("options", [("-q",), ("--query-gpu=name",), ("-i",)])
def test_the_simulated_tool_refuses_what_it_does_not_know(gpus: Root, options: tuple[str, ...]) -> None:
    assert gpus.run(*options, program="nvidia-smi-simulated").returncode == 2


def test_a_box_without_gpus_has_no_devices(root: Root) -> None:
    done = root.run("-L", program="nvidia-smi-simulated")
    assert (done.returncode, done.stdout) == (6, "No devices were found\n")
