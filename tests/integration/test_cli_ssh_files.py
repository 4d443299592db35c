"""What `ssh` itself makes of the files that `gpu-dev` writes."""

from __future__ import annotations

import socket
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.cli.screen import ID, NOW, a_box, a_view, an_output

from odc.api.messages.reservations import ReservationView, SshView
from odc.cli import ssh_files, ssh_identities, ssh_include, ssh_names, ssh_settings, ssh_setup
from odc.cli.context import Session
from odc.domain.status import Status

HERE = "unix:///run/odc/odc.sock"
LATER = 1e11
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAID box"


@pytest.mark.parametrize("home", ["plain", "with space", "50%"])
def test_ssh_reads_the_box_from_the_file(tmp_path: Path, home: str) -> None:
    folder = tmp_path / home
    ssh_files.sync(folder, (a_view(host_key=KEY),), HERE, LATER)
    config = ssh_files.config_path(folder, ID)
    shown = subprocess.run(["ssh", "-F", config, "-G", "train"], capture_output=True, text=True, check=True).stdout
    facts = dict(line.split(" ", 1) for line in shown.splitlines())
    assert (facts["hostname"], facts["port"], facts["user"]) == ("10.0.0.5", "30122", "dev")
    assert facts["hostkeyalias"] == ID
    assert facts["stricthostkeychecking"] in ("yes", "true")
    assert str(folder) in facts["userknownhostsfile"].replace("%%", "%")


@pytest.mark.parametrize(("endpoint", "direct"), [(HERE, True), ("/run/odc/odc.sock", True), ("ssh://lab", False)])
def test_only_a_loopback_address_of_this_machine_is_reached_without_a_proxy(
    tmp_path: Path, endpoint: str, direct: bool
) -> None:
    box = a_box(ssh=SshView(host="127.0.0.1", port=30122, user="dev", command="ssh dev@127.0.0.1 -p 30122"))
    ssh_files.sync(tmp_path, (a_view(host_key=KEY, boxes=(box,)),), endpoint, LATER)
    assert ("ProxyCommand none" in ssh_files.config_path(tmp_path, ID).read_text()) is direct


def test_files_of_what_is_over_are_taken_away(tmp_path: Path) -> None:
    ssh_files.sync(tmp_path, (a_view(host_key=KEY),), HERE, LATER)
    (tmp_path / "config.toml").write_text("")
    ssh_files.sync(tmp_path, (), HERE, LATER)
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


def test_files_of_another_cloud_stay(tmp_path: Path) -> None:
    ssh_files.sync(tmp_path, (a_view(host_key=KEY, expires_at=None),), HERE, LATER)
    ssh_files.sync(tmp_path, (), "unix:///elsewhere.sock", LATER)
    assert ssh_files.find_offline(tmp_path, "/run/odc/odc.sock", "train") == ssh_files.config_path(tmp_path, ID)
    assert ssh_files.find_offline(tmp_path, "unix:///elsewhere.sock", "train") is None
    assert len(list(tmp_path.iterdir())) == 2


def test_nothing_but_a_comment_is_made_of_an_endpoint(tmp_path: Path) -> None:
    ssh_files.sync(tmp_path, (a_view(host_key=KEY),), "/x\nProxyCommand evil", LATER)
    assert "evil" not in ssh_files.config_path(tmp_path, ID).read_text()


def test_a_file_that_was_written_since_the_cloud_was_asked_stays(tmp_path: Path) -> None:
    ssh_files.sync(tmp_path, (a_view(host_key=KEY),), HERE, LATER)
    ssh_files.sync(tmp_path, (), HERE, asked_at=1.0)
    assert len(list(tmp_path.iterdir())) == 2


OTHER_ID = "5e0d22b7" + ID[8:]
THERE = "unix:///nowhere/odc.sock"


def on_this_machine(port: int, **changes: object) -> ReservationView:
    ssh = SshView(host="127.0.0.1", port=port, user="dev", command="ssh")
    return a_view(**({"host_key": KEY, "boxes": (a_box(ssh=ssh),), "expires_at": None} | changes))


def ssh_says(folder: Path, name: str) -> str:
    """What `ssh NAME` prints on standard error with the folder's files alone."""
    config = folder / "include"
    config.write_text(f"Include {folder}/*-sshconfig\n")
    done = subprocess.run(["ssh", "-F", config, name, "true"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 255
    return done.stderr


def port_of(folder: Path, name: str) -> int:
    config = folder / "include"
    config.write_text(f"Include {folder}/*-sshconfig\n")
    shown = subprocess.run(["ssh", "-F", config, "-G", name], capture_output=True, text=True, check=True).stdout
    return int(dict(line.split(" ", 1) for line in shown.splitlines())["port"])


def options_in(folder: Path) -> set[str]:
    """The options that the reservation's entry sets."""
    lines = ssh_files.config_path(folder, ID).read_text().splitlines()
    return {line.split()[0] for line in lines if line.startswith("  ")}


def test_a_name_without_a_box_yet_says_how_to_wait_for_it(tmp_path: Path) -> None:
    # Its port may be open before its server answers.
    planned = on_this_machine(30122, state=Status.PREPARING)
    rules = ssh_files.NameRules(current=HERE)
    ssh_files.sync(tmp_path, (planned,), HERE, LATER, rules=rules)
    assert ssh_files.find_offline(tmp_path, HERE, "train") is None
    told = "train was not ready when this was written; to wait for it: gpu-dev connect train\n"
    assert ssh_says(tmp_path, "train") == ssh_says(tmp_path, "train-0") == told
    # So that what ssh makes of the entry is known before the box is there.
    before = options_in(tmp_path)
    ssh_files.rewrite(tmp_path, on_this_machine(30122), HERE, ssh_identities.NONE, rules)
    assert options_in(tmp_path) == before
    assert port_of(tmp_path, "train") == 30122
    ssh_files.sync(tmp_path, (planned,), HERE, LATER)
    assert ssh_says(tmp_path, "train") == told.replace("gpu-dev", f"gpu-dev --endpoint {HERE}", 1)


def test_an_entry_that_is_written_again_leaves_the_names_of_later_ones(tmp_path: Path) -> None:
    planned = on_this_machine(1, state=Status.PREPARING)
    other = on_this_machine(2, id=OTHER_ID, name="train-0")
    ssh_files.sync(tmp_path, (planned,), HERE, LATER)
    # Another command, while the first one waits.
    ssh_files.sync(tmp_path, (planned, other), HERE, LATER)
    ssh_files.rewrite(tmp_path, on_this_machine(1), HERE, ssh_identities.NONE, ssh_files.ANY_NAME)
    assert (port_of(tmp_path, "train"), port_of(tmp_path, "train-0")) == (1, 2)
    assert "train-0" not in ssh_names.hosts_in(ssh_files.config_path(tmp_path, ID))


def test_a_name_in_two_clouds_leads_into_neither_and_both_have_another(tmp_path: Path) -> None:
    one, two = "unix:///dev/null", "unix:///dev/zero"
    ssh_files.sync(tmp_path, (on_this_machine(1),), one, LATER)
    ssh_files.sync(tmp_path, (on_this_machine(2, id=OTHER_ID),), two, LATER)
    for name in ("train", "train-0"):
        assert f"ssh {name}.zero or ssh {name}.null" in ssh_says(tmp_path, name)
    assert port_of(tmp_path, "train.null") == 1
    assert port_of(tmp_path, "train.zero") == 2
    assert ssh_names.ssh_name(ssh_files.config_path(tmp_path, ID)) == "train.null"
    ssh_files.sync(tmp_path, (), two, LATER)
    assert "port 1: Connection refused" in ssh_says(tmp_path, "train")
    ssh_files.sync(tmp_path, (), one, LATER)
    assert [path.name for path in tmp_path.iterdir()] == ["include"]


def test_a_name_in_two_clouds_is_the_current_ones(tmp_path: Path) -> None:
    one, two = "unix:///dev/null", "unix:///dev/zero"
    ssh_files.sync(tmp_path, (on_this_machine(1),), one, LATER)
    for current, port, names in ((one, 1, ("train", "train.zero")), (two, 2, ("train.null", "train"))):
        rules = ssh_files.NameRules(current=current)
        ssh_files.sync(tmp_path, (on_this_machine(2, id=OTHER_ID),), two, LATER, rules=rules)
        assert (port_of(tmp_path, "train"), port_of(tmp_path, "train-0")) == (port, port)
        assert (port_of(tmp_path, "train.null"), port_of(tmp_path, "train.zero")) == (1, 2)
        paths = [ssh_files.config_path(tmp_path, view_id) for view_id in (ID, OTHER_ID)]
        assert tuple(map(ssh_names.ssh_name, paths)) == names


def test_two_clouds_of_one_context_have_names_by_their_ids(tmp_path: Path) -> None:
    one, two = "unix:///dev/null", "unix:///dev/null/odc.sock"
    ssh_files.sync(tmp_path, (on_this_machine(1),), one, LATER)
    ssh_files.sync(tmp_path, (on_this_machine(2, id=OTHER_ID),), two, LATER)
    for name in ("train", "train.null"):
        assert "ssh train.5e0d22b7 or ssh train.b1946ac9" in ssh_says(tmp_path, name)
    assert (port_of(tmp_path, "train.b1946ac9"), port_of(tmp_path, "train.5e0d22b7")) == (1, 2)


def test_an_entry_without_contexts_is_replaced_by_one_with_them(tmp_path: Path) -> None:
    ssh_files.sync(tmp_path, (on_this_machine(1),), "unix:///dev/null", LATER)
    entry = ssh_files.config_path(tmp_path, ID)
    entry.write_text(entry.read_text().replace("Host train train.null train-0 train-0.null", "Host train train-0"))
    ssh_files.sync(tmp_path, (on_this_machine(2, id=OTHER_ID),), "unix:///dev/zero", LATER)
    assert "ssh train.zero or ssh train.b1946ac9" in ssh_says(tmp_path, "train")
    assert port_of(tmp_path, "train.b1946ac9") == 1
    ssh_files.sync(tmp_path, (on_this_machine(1),), "unix:///dev/null", LATER)
    assert "ssh train.zero or ssh train.null" in ssh_says(tmp_path, "train")


@pytest.mark.parametrize(
    ("endpoint", "context"),
    [
        ("unix:///run/odc/odc.sock", "odc"),
        ("/run/odc/lab.sock", "lab"),
        ("unix:///srv/Lab 2/odc.sock", "lab-2"),
        ("ssh://ada@lab", "ada-lab"),
        ("/odc.sock", "odc"),
    ],
)
def test_a_context_is_named_after_its_endpoint(endpoint: str, context: str) -> None:
    assert ssh_names.context_of(endpoint) == context


def test_entries_of_a_cloud_that_is_gone_go_and_those_of_one_that_is_down_stay(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as box:
        port = box.getsockname()[1]
        ssh_files.sync(tmp_path, (on_this_machine(port),), THERE, LATER)
        ssh_files.sync(tmp_path, (), HERE, LATER)
        assert ssh_files.config_path(tmp_path, ID).exists()
    ssh_files.sync(tmp_path, (), HERE, LATER)
    assert list(tmp_path.iterdir()) == []


def as_written_on(machine: str, entry: Path) -> None:
    """Let the entry be of another machine, as in a home that machines share."""
    before, mark, cloud = entry.read_text().rpartition("# of the cloud on ")
    entry.write_text(f"{before}{mark}{cloud.split()[0]} of {machine} 0123456789ab\n")


def test_machines_that_share_a_home_leave_each_others_entries(tmp_path: Path) -> None:
    ssh_files.sync(tmp_path, (on_this_machine(1),), THERE, LATER)
    entry = ssh_files.config_path(tmp_path, ID)
    as_written_on("lab2", entry)
    ssh_files.sync(tmp_path, (on_this_machine(2, id=OTHER_ID),), THERE, LATER)
    assert entry.exists()
    assert "ssh train.5e0d22b7 or ssh train.b1946ac9" in ssh_says(tmp_path, "train")
    assert port_of(tmp_path, "train.b1946ac9") == 1
    assert ssh_names.elsewhere(tmp_path, ssh_names.cloud_of(THERE), "train") == "/nowhere/odc.sock of lab2"
    assert ssh_files.files_of(tmp_path, THERE) == [ssh_files.config_path(tmp_path, OTHER_ID)]


def test_an_entry_of_this_machine_under_an_earlier_name_is_its_own(tmp_path: Path) -> None:
    ssh_files.sync(tmp_path, (on_this_machine(1),), THERE, LATER)
    entry = ssh_files.config_path(tmp_path, ID)
    renamed = entry.read_text().replace(f" of {socket.gethostname()} ", " of earlier ")
    entry.write_text(renamed)
    assert ssh_files.files_of(tmp_path, THERE) == [entry]
    ssh_files.sync(tmp_path, (), THERE, LATER)
    assert not entry.exists()


def test_a_box_leaves_its_name_to_a_reservation_that_is_called_so(tmp_path: Path) -> None:
    other = on_this_machine(2, id=OTHER_ID, name="train-0")
    ssh_files.sync(tmp_path, (on_this_machine(1), other), HERE, LATER)
    assert port_of(tmp_path, "train") == 1
    assert port_of(tmp_path, "train-0") == 2
    assert port_of(tmp_path, "train-0.b1946ac9") == 1


@pytest.mark.parametrize(("days", "stays"), [(1, True), (3, False)])
def test_an_entry_of_another_cloud_stays_no_longer_than_its_box_can_live(
    tmp_path: Path, days: int, stays: bool
) -> None:
    end = datetime.now(UTC) - timedelta(days=days)
    ssh_files.sync(tmp_path, (a_view(host_key=KEY, expires_at=end),), "unix:///dev/null", LATER)
    ssh_files.sync(tmp_path, (), HERE, LATER)
    assert ssh_files.config_path(tmp_path, ID).exists() is stays


def test_an_entry_of_an_earlier_version_is_found_and_taken_away(tmp_path: Path) -> None:
    entry = ssh_files.config_path(tmp_path, ID)
    entry.write_text("Host train train-0\n  HostName 10.0.0.5\n\n# of the cloud on /run/odc/odc.sock\n")
    assert ssh_files.find_offline(tmp_path, HERE, "train") == entry
    assert ssh_files.names_of(tmp_path, HERE) == ["train"]
    ssh_files.sync(tmp_path, (), HERE, LATER)
    assert not entry.exists()


def test_a_host_of_the_users_own_keeps_its_name(tmp_path: Path) -> None:
    ssh_files.sync(
        tmp_path, (a_view(host_key=KEY),), HERE, LATER, rules=ssh_files.NameRules(own=lambda names: ["train"])
    )
    entry = ssh_files.config_path(tmp_path, ID)
    assert ssh_names.hosts_in(entry) == ["train.odc", "train-0", "train-0.odc"]
    assert ssh_names.ssh_name(entry) == "train.odc"
    rules = ssh_files.NameRules(own=lambda names: ["train", "train.odc"])
    ssh_files.sync(tmp_path, (a_view(host_key=KEY),), HERE, LATER, rules=rules)
    assert ssh_names.hosts_in(entry) == ["train.b1946ac9", "train-0", "train-0.odc"]
    assert ssh_files.find_offline(tmp_path, HERE, "train") == entry
    assert ssh_files.names_of(tmp_path, HERE) == ["train"]


def test_a_shared_connection_is_the_boxs_own_or_none_where_its_path_is_too_long(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tmp_path = tmp_path_factory.mktemp("s")
    for home, expected in (("short", f"{tmp_path}/short/b1946ac9-0.mux"), ("long" * 30, None)):
        folder = tmp_path / home
        ssh_files.sync(folder, (a_view(host_key=KEY),), HERE, LATER)
        (folder / "config").write_text(f"Include {folder}/*-sshconfig\nHost *\n  ControlPath /shared\n")
        words = ["ssh", "-F", str(folder / "config"), "-G", "train"]
        shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        facts = dict(line.split(" ", 1) for line in shown.splitlines())
        assert facts.get("controlpath", "none") == (expected or "none")


@pytest.mark.parametrize("hashed", [False, True])
def test_a_host_that_the_user_has_connected_to_is_known(tmp_path: Path, hashed: bool) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"# mine\nother,prod {KEY}\n@revoked bad {KEY}\n|1|x|y {KEY}\n")
    if hashed:
        subprocess.run(["ssh-keygen", "-H", "-f", path], capture_output=True, check=False)
    found = ssh_settings.known_hosts(path, ["prod", "train", "pro"])
    assert list(found) == ["prod"]


@pytest.mark.parametrize("hashed", [False, True])
def test_a_host_with_another_port_is_known_by_its_name(tmp_path: Path, hashed: bool) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"other,[build]:2222 {KEY}\n[::1]:22 {KEY}\n")
    if hashed:
        path.write_text(f"other,[build]:2222 {KEY}\n::1 {KEY}\n")
        subprocess.run(["ssh-keygen", "-H", "-f", path], capture_output=True, check=True)
        assert "build" not in path.read_text()
    assert list(ssh_settings.known_hosts(path, ["build", "train", "::1"])) == ["build", "::1"]


def test_a_host_that_only_the_machine_names_is_the_users(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost\n# 10.0.0.1 train\n10.0.0.2 Prod.lab  PROD # tune\n\n")
    found = ssh_settings.machine_hosts(path, ["prod", "train", "tune", "10.0.0.2"])
    assert {name: place.line for name, place in found.items()} == {"prod": 3}
    assert ssh_settings.machine_hosts(tmp_path / "none", ["prod"]) == {}


def test_the_hosts_of_this_machine_are_asked_for_a_users_own(tmp_path: Path) -> None:
    session = Session(home=tmp_path, output=an_output(), now=lambda: NOW, account_home=tmp_path)
    found = ssh_setup.own_hosts(session, ["localhost", "train"])
    assert list(found) == ["localhost"]
    assert found["localhost"].startswith("/etc/hosts:")


def key_at(path: Path, kind: str = "ed25519") -> str:
    """Make a key; its public half without the comment."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


def test_only_keys_that_the_box_accepts_are_named_wherever_they_are(tmp_path: Path) -> None:
    folder, ssh = tmp_path / ".gpu-dev", tmp_path / ".ssh"
    work, rsa = key_at(ssh / "work"), key_at(ssh / "id_rsa", "rsa")
    key_at(ssh / "id_ed25519")
    key_at(ssh / "id_ecdsa", "ecdsa")
    (ssh / "id_ecdsa.pub").unlink()
    found = ssh_identities.identities([tmp_path], None, [work, rsa], folder)
    named = [line.split('"')[1] for line in found.lines.splitlines()[1:]]
    assert found.lines.startswith("  IdentitiesOnly yes\n")
    assert set(named[:3]) == {str(ssh / "work"), str(ssh / "id_rsa"), str(ssh / "id_ecdsa")}
    assert {f"{folder / name}" for name in found.files} == {f"{path}.pub" for path in named[3:]}
    assert {text.strip() for text in found.files.values()} == {work, rsa}


def test_public_keys_that_no_entry_names_are_taken_away(tmp_path: Path) -> None:
    key = key_at(tmp_path / ".ssh/id_ed25519")
    folder = tmp_path / ".gpu-dev"
    found = ssh_identities.identities([tmp_path], None, [key], folder)
    ssh_files.sync(folder, (a_view(host_key=KEY),), HERE, LATER, found)
    assert len(list(folder.glob("*-key.pub"))) == 1
    ssh_files.sync(folder, (), HERE, LATER)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        (f"{ssh_include.LINE}\nHost *\n  Port 2\n", False),
        ("host *\n", False),
        ("Host prod\n", True),
        ("Match host prod\n", True),
        ("Include conf.d/*\n", True),
        (f"{ssh_include.BEGIN}\nHost train\n{ssh_include.END}\n", False),
    ],
)
def test_a_configuration_for_every_host_names_no_host(tmp_path: Path, text: str, expected: bool) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    assert ssh_include.names_hosts(path) is expected
