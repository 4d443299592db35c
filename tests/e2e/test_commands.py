"""Every command of the guide with the installed `gpu-dev`: once as it should go, once as it should not."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest
from tests.e2e.cloud import Cloud, Done, Person, add_person
from tests.e2e.terminal import terminal
from tests.github_server import GitHub
from tests.waiting import eventually

from odc import __version__

pytestmark = [pytest.mark.podman, pytest.mark.btrfs, pytest.mark.deployments]

T4 = ("reserve", "-t", "t4", "-g", "1", "-h", "0.5")


def refused(person: Person, *arguments: str, code: int = 2) -> Done:
    """A command that must fail with words on standard error and nothing else."""
    done = person.gpu_dev(*arguments)
    assert (done.code, done.out) == (code, ""), done
    assert done.err.startswith("error: ")
    return done


@pytest.fixture(scope="module")
def cyd(cloud: Cloud) -> Person:
    """A developer who has set no key yet, in a home whose name has a space."""
    person = add_person(cloud, "c")
    home = person.home.with_name("cyd's home")
    subprocess.run(["usermod", "--move-home", "--home", str(home), person.name], check=True)
    person.home = home
    return person


@pytest.fixture
def octocat(cyd: Person, github: GitHub) -> Iterator[GitHub]:
    """GitHub knows cyd's key under this login; the login is forgotten afterwards."""
    github.set_keys("octocat", (cyd.home / ".ssh/id_ed25519.pub").read_text().strip())
    yield github
    github.status = 200
    cyd.ok("config", "set", "github_user", "")


def test_help_and_version_need_no_cloud(ada: Person) -> None:
    away = {"GPU_DEV_ENDPOINT": "unix:///nowhere.sock"}
    assert ada.ok("--version", **away) == f"gpu-dev, version {__version__}\n"
    assert ada.ok("help", **away) == ada.ok("--help", **away) == ada.ok(**away)
    for command in ("reserve", "list", "show", "connect", "cancel", "wait", "avail", "status", "config"):
        assert ada.ok("help", command, **away) == ada.ok(command, "--help", **away)
    assert "did you mean   gpu-dev list\n" in refused(ada, "lst").err
    assert "no command 'nope'" in refused(ada, "help", "nope").err


def test_keys_from_github_open_boxes_also_while_github_is_away(cyd: Person, octocat: GitHub) -> None:
    assert "you have set no SSH key" in refused(cyd, *T4).err
    assert cyd.ok("config", "set", "github_user", "octocat") == "octocat: 1 key\n"
    octocat.status = 503
    cyd.ok(*T4, "-n", "hub", "--disk", "none", "--wait")
    assert cyd.in_box("hub", "whoami").out == "dev\n"
    shown = cyd.ok("config", "show")
    assert "github_user   octocat" in shown
    assert "(GitHub)" in shown


@pytest.mark.parametrize("login", ["nobody-there", "no keys", "-x", "a/b"])
def test_a_login_without_keys_is_refused_and_the_old_one_stays(cyd: Person, octocat: GitHub, login: str) -> None:
    cyd.ok("config", "set", "github_user", "octocat")
    assert login in refused(cyd, "config", "set", "github_user", login).err
    assert cyd.json("config", "show")["github_user"] == "octocat"


def test_github_that_is_away_is_not_a_dead_end(cyd: Person, octocat: GitHub) -> None:
    octocat.status = 503
    told = refused(cyd, "config", "set", "github_user", "octocat", code=1).err
    assert "status 503" in told
    assert "gpu-dev config set ssh_key ~/.ssh/id_ed25519.pub" in told


def test_ones_own_key_is_taken_from_a_file(cyd: Person) -> None:
    assert "SHA256:" in cyd.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
    assert "is a private key; it stays with you" in refused(cyd, "config", "set", "ssh_key", "~/.ssh/id_ed25519").err
    assert "cannot be read" in refused(cyd, "config", "set", "ssh_key", "~/.ssh/nope.pub").err
    assert "did you mean ssh_key?" in refused(cyd, "config", "set", "ssh_kye", "x").err
    cyd.run("bash", "-c", "(echo '# two of them'; echo; cat .ssh/*.pub) > several; ssh-keygen -qt rsa -N '' -f new")
    cyd.run("bash", "-c", "cat new.pub >> several")
    assert cyd.ok("config", "set", "ssh_key", "several").count("SHA256:") == 2
    cyd.ok("config", "set", "ssh_key", "")
    assert cyd.json("config", "show")["keys"] == []
    assert "/dev/null is empty" in refused(cyd, "config", "set", "ssh_key", "/dev/null").err


def test_who_has_keys_in_an_agent_only_is_offered_those(cyd: Person) -> None:
    lines = [
        "ssh-add -q ~/.ssh/id_ed25519 && mv ~/.ssh/id_ed25519* ~",
        "gpu-dev reserve -t t4 -g 1 -h 0.5 -n agent --disk none --wait",
        "gpu-dev reserve -t t4 -g 1 -h 0.5 -n agent --disk none --wait --yes >/dev/null",
        "gpu-dev connect agent -- echo in",
    ]
    try:
        done = cyd.run("ssh-agent", "bash", "-c", "\n".join(lines))
        assert "ssh-add -L > ~/agent.pub && gpu-dev config set ssh_key ~/agent.pub" in done.err
        assert "Your agent's: SHA256:" in done.err
        assert done.out == "in\n"
    finally:
        cyd.run("bash", "-c", "mv ~/id_ed25519* ~/.ssh")
        cyd.ok("config", "set", "ssh_key", "")


def test_ssh_works_by_name_from_a_home_with_a_space(cyd: Person) -> None:
    cyd.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
    cyd.run("chmod", "755", ".ssh")
    cyd.ok("config", "ssh-include", "enable")
    assert cyd.run("stat", "-c", "%a", ".ssh", ".ssh/config").out.split() == ["755", "600"]
    cyd.ok(*T4, "-n", "spaced", "--disk", "none", "--wait")
    assert cyd.run("ssh", "-o", "BatchMode=yes", "spaced", "echo in").out == "in\n"
    cyd.ok("config", "ssh-include", "disable")
    assert cyd.run("cat", ".ssh/config").out == ""
    cyd.ok("config", "set", "ssh_key", "")


def test_a_closed_ssh_folder_gives_no_traceback(cyd: Person) -> None:
    cyd.run("chmod", "000", ".ssh")
    try:
        assert cyd.ok("config", "show").endswith("Next: gpu-dev config set github_user NAME\n")
        assert "cannot be read" in refused(cyd, "config", "ssh-include", "enable").err
        assert "gpu-dev config set github_user NAME" in refused(cyd, *T4).err
    finally:
        cyd.run("chmod", "700", ".ssh")


def test_reserve_takes_every_option(ada: Person, cloud: Cloud) -> None:
    long = ("reserve", "--gpu-type", "t4", "--gpus", "2", "--hours", "0.5", "--name", "opts", "--disk", "opts-disk")
    view = ada.json(*long, "--wait", "--yes")
    assert (view["state"], view["gpus"], view["hours"], view["disk"]) == ("active", 2, 0.5, "opts-disk")
    without_gpus = "cpu-x86" in cloud.nodes
    kind = ("-t", "cpu-x86") if without_gpus else ("-t", "h100", "-g", "1")
    free = ada.json("reserve", *kind, "-h", "0.5", "--no-persist", "--no-wait")
    assert (free["gpus"], free["disk"], free["name"]) == (0 if without_gpus else 1, None, "temporary")
    again = ada.json("reserve", "--like", "opts", "-g", "1", "--disk", "none", "--wait")
    assert (again["gpu_type"], again["gpus"], again["hours"], again["name"]) == ("t4", 1, 0.5, "temporary-2")
    assert "--no-persist and --disk" in refused(ada, *T4, "--disk", "x", "--no-persist").err
    assert "no such option" in refused(ada, *T4, "--jupyter").err.lower()


def test_list_filters_by_state_and_user(ada: Person, ben: Person, cloud: Cloud) -> None:
    all_gpus = str(cloud.largest)
    ada.ok(*T4, "-n", "up", "--disk", "none", "--wait")
    ben.ok("reserve", "-t", "h100", "-g", all_gpus, "-h", "1", "-n", "whole", "--disk", "none", "--wait")
    ada.ok("reserve", "-t", "h100", "-g", all_gpus, "-h", "1", "-n", "later", "--disk", "none", "--no-wait")
    listed = ada.ok("list")
    assert [line.split()[0] for line in listed.splitlines()][:3] == ["NAME", "up", "later"]
    assert "up" not in ada.ok("list", "--status", "queued").split()
    assert "later" not in ada.ok("list", "--status", "active").split()
    assert ben.name in ada.ok("list", "--user", "all")
    assert ada.name not in ada.ok("list", "--user", ben.name)
    ada.ok("cancel", "later", "--yes")
    assert "later" not in ada.ok("list").split()
    assert re.search(r"later .* cancelled", ada.ok("list", "--all"))
    assert "no status 'sleeping'" in refused(ada, "list", "--status", "sleeping").err
    assert "--watch and --json together" in ada.gpu_dev("list", "--watch", "--json").err


def test_avail_and_status_count_what_is_taken(ada: Person, cloud: Cloud) -> None:
    whole, half = cloud.largest, cloud.largest // 2
    ada.ok("reserve", "-t", "h100", "-g", str(half), "-h", "1", "-n", "half", "--disk", "none", "--wait")
    assert re.search(rf"^h100 +{half}/{whole} +now +now ", ada.ok("avail"), re.MULTILINE)
    h100 = next(view for view in ada.json("avail")["types"] if view["name"] == "h100")
    assert [choice["gpus"] for choice in h100["choices"]] == [gpus for gpus in (1, 2, 4, 8) if gpus <= whole]
    # Its column HELD is there because something is held.
    assert re.search(rf"^h100 +{whole} +{half} +{half} +1 +0$", ada.ok("status"), re.MULTILINE)
    assert {node["name"] for node in ada.json("status")["nodes"]} == set(cloud.nodes.values())
    with terminal(ada, "gpu-dev", "avail", "--watch") as screen:
        screen.answer("press q or Ctrl+C to quit", "q")
        assert screen.ended() == 0
    assert "no such option" in refused(ada, "avail", "--nope").err.lower()
    assert "unexpected extra argument" in refused(ada, "status", "x").err


def test_show_tells_everything_and_its_story(ada: Person, cloud: Cloud) -> None:
    ada.ok(*T4, "-n", "tale", "--disk", "tale", "--wait")
    shown = ada.ok("show", "tale")
    for told in ("active until", "ssh dev@", f"tale-0 on {cloud.nodes['t4']}", "0.5 GiB", "phases"):
        assert told in shown
    short = ada.view("tale")["id"][:8]
    # Time passes between two commands, and the disk may be measured.
    eventually("both are the same", lambda: ada.ok("show") == ada.ok("show", short))
    story = ada.ok("show", "tale", "--history")
    assert "you  asked for 1 x t4, 30 min, disk tale" in story
    assert ada.json("show", "tale", "--history")["events"][0]["kind"] == "asked"
    assert "did you mean tale?" in refused(ada, "show", "tael").err


def test_wait_ends_with_the_state(ada: Person) -> None:
    ada.ok(*T4, "-n", "soon", "--disk", "none", "--no-wait")
    assert "Next: gpu-dev connect soon" in ada.ok("wait", "soon")
    ada.ok("cancel", "soon", "--yes")
    ended = ada.gpu_dev("wait", "soon")
    assert ended.code == 1
    assert "soon cancelled" in ended.out
    assert "you have no live reservation" in refused(ada, "wait").err


def test_connect_names_what_is_missing(ada: Person) -> None:
    assert "you have no live reservation" in refused(ada, "connect").err
    ada.ok(*T4, "-n", "over", "--disk", "none", "--wait")
    assert ada.gpu_dev("connect", "--", "exit 7").code == 7
    ada.ok("cancel", "over", "--yes")
    ada.until("over", "cancelled")
    done = ada.gpu_dev("connect", "over")
    assert done.code == 1
    assert "Again: gpu-dev reserve --like over" in done.err


def test_cancel_ends_one_all_or_none(ada: Person) -> None:
    assert ada.ok("cancel", "--all") == "You have no live reservation.\n"
    for name in ("one", "two", "three"):
        ada.ok(*T4, "-n", name, "--disk", "none", "--wait")
    assert "which one?" in refused(ada, "cancel").err
    assert "--all and an ID together" in refused(ada, "cancel", "one", "--all").err
    ada.ok("cancel", "one", "--yes")
    assert {view["name"] for view in ada.json("cancel", "--all", "--yes")} >= {"two", "three"}
    ada.until("two", "cancelled")
    assert "sshconfig" not in ada.run("ls", ".gpu-dev").out
    assert ada.ok("cancel", "two", "--yes").startswith("two cancelled")
