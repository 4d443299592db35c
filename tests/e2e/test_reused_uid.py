"""A Unix user leaves, `userdel`, and a new one gets the same uid: real users, real ssh, a real disk."""

from __future__ import annotations

import dataclasses
import json
import pwd
import subprocess
from collections.abc import Iterator

import pytest
from tests.e2e.cloud import Cloud, Person, add_person
from tests.e2e.operated import reserve
from tests.waiting import eventually

pytestmark = [pytest.mark.podman, pytest.mark.btrfs, pytest.mark.skipif("os.geteuid() != 0", reason="makes users")]


@pytest.fixture
def leaver(spare: Cloud) -> Iterator[Person]:
    """Somebody with a disk, who has left; the login is gone, the home is kept."""
    person = add_person(spare, "l")
    reserve(person, "old", disk="proj")
    person.ok("cancel", "old", "--yes")
    person.gpu_dev("wait", "old")
    yield person
    spare.people.remove(person)


def newcomer(spare: Cloud, leaver: Person, uid: int, letter: str) -> Person:
    """Another Unix user, with this uid and a home with a key of their own."""
    person = add_person(spare, letter)
    subprocess.run(["usermod", "-u", str(uid), person.name], check=True)
    subprocess.run(["chown", "-R", f"{uid}", str(person.home)], check=True)
    spare.people.remove(person)
    return person


def test_a_user_with_a_reused_uid_gets_neither_disk_nor_keys(spare: Cloud, leaver: Person) -> None:
    uid = pwd.getpwnam(leaver.name).pw_uid
    subprocess.run(["userdel", leaver.name], check=True)
    new = newcomer(spare, leaver, uid, "n")
    try:
        refused = new.gpu_dev("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "--disk", "proj", "--no-wait", "--yes")
        assert (refused.code, refused.out) == (2, "")
        assert f"uid {uid} was {leaver.name} in this cloud and is {new.name} now" in refused.err
        assert f"sudo odc --config {spare.config} user forget {uid}\n" in refused.err
        hints = json.loads(new.gpu_dev("list", "--json").err)["hints"]
        assert [hint["command"].split(" user ")[1] for hint in hints] == [f"move {uid} {new.name}", f"forget {uid}"]
        for command in (("list",), ("config", "show"), ("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")):
            done = new.gpu_dev(*command)
            assert (done.code, leaver.name in done.err) == (2, True), command
        assert eventually(
            "status tells it", lambda: told_by_status(spare, f"uid {uid} was {leaver.name} and is {new.name}")
        )
        doctor = spare.odc("doctor", check=False).out
        assert f"{leaver.name}: uid {uid} is {new.name} now, whose requests are refused" in doctor
        listed = json.loads(spare.odc("user", "list", "--json").out)["users"]
        (held,) = [user for user in listed if user["held"] and user["uid"] == uid]
        assert (held["uid"], held["name"], held["login"], held["disks"]) == (uid, leaver.name, new.name, ["proj"])
        wrong = spare.odc("user", "forget", f"{leaver.name}x", check=False)
        assert f"did you mean {leaver.name}?" in wrong.err
        asked = spare.odc("user", "forget", leaver.name, check=False)
        assert (asked.code, "--yes" in asked.err) == (2, True)
        told = spare.odc("user", "forget", leaver.name, "--yes").out
        assert "disks kept: proj" in told
        check_own_box(new, leaver)
        (former,) = [user for user in forgotten(spare) if user["name"] == leaver.name]
        spare.odc("user", "move", former["principal"], new.name, "--yes")
        assert {disk["name"] for disk in new_disks(spare, new)} >= {"proj", "proj-2"}
        assert former["principal"] not in [user["principal"] for user in forgotten(spare)]
    finally:
        spare.odc("user", "forget", str(uid), "--yes", check=False)
        subprocess.run(["userdel", new.name], check=True)


def told_by_status(spare: Cloud, text: str) -> bool:
    """Whether `gpu-dev status`, typed by root, says this."""
    home = spare.folder / "home-of-root"
    home.mkdir(mode=0o700, exist_ok=True)
    words = [str(spare.bin / "gpu-dev"), "--endpoint", f"unix://{spare.socket}", "status"]
    done = subprocess.run(words, env={"HOME": str(home), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    return text in " ".join(done.stdout.split())


def check_own_box(new: Person, leaver: Person) -> None:
    """The new person's disk is empty, and the leaver's key opens nothing of theirs."""
    reserve(new, "mine", disk="proj")
    assert new.in_box("mine", "cat file").out.strip() == "mine"
    assert new.in_box("mine", "ls /home/dev").out.split() == ["file"]
    port = str(new.view("mine")["boxes"][0]["ssh"]["port"])
    ssh = ["ssh", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    ssh += ["-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-p", port]
    for person, code in ((leaver, 255), (new, 0)):
        key = ["-i", str(person.home / ".ssh/id_ed25519"), "dev@127.0.0.1", "true"]
        assert subprocess.run([*ssh, *key], capture_output=True).returncode == code, person.name
    new.ok("cancel", "mine", "--yes")
    new.gpu_dev("wait", "mine")


def forgotten(spare: Cloud) -> list[dict[str, str]]:
    """Those who have left, also in other tests, as the operator sees them."""
    users = json.loads(spare.odc("user", "list", "--json").out)["users"]
    return [user for user in users if user["uid"] is None]


def new_disks(spare: Cloud, person: Person) -> list[dict[str, str]]:
    """The person's disks, as the operator sees them."""
    users = json.loads(spare.odc("user", "list", "--json").out)["users"]
    (user,) = [user for user in users if user["name"] == person.name]
    return [{"name": name} for name in user["disks"]]


def test_a_renamed_user_is_held_until_the_operator_says_who_it_is(spare: Cloud) -> None:
    person = add_person(spare, "r")
    reserve(person, "train", disk="data")
    renamed = f"{person.name}2"
    subprocess.run(["usermod", "-l", renamed, person.name], check=True)
    after = dataclasses.replace(person, name=renamed)
    spare.people.remove(person)
    spare.people.append(after)
    try:
        refused = after.gpu_dev("list")
        assert (refused.code, f"user move {pwd.getpwnam(renamed).pw_uid} {renamed}\n" in refused.err) == (
            2,
            True,
        )
        spare.odc("user", "move", person.name, renamed, "--yes")
        assert after.in_box("train", "cat file").out.strip() == "train"
        assert after.view("train")["owner"] == renamed
        after.ok("cancel", "train", "--yes")
    finally:
        # By its first name again, so that its group goes with it.
        subprocess.run(["usermod", "-l", person.name, renamed], check=True)
        spare.people.remove(after)
        spare.people.append(person)
        spare.odc("user", "forget", str(pwd.getpwnam(person.name).pw_uid), "--yes")
