"""Whatever a user's own ssh settings and agents are: the box is reached, or the line in the way is named."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
from collections.abc import Iterator

import pytest
from tests.e2e.cloud import Cloud, Done, Person
from tests.e2e.terminal import terminal
from tests.lane import LANE

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]
EIGHT = (
    "for i in 1 2 3 4 5 6 7 8; do ssh-keygen -qt ed25519 -N '' -f ~/.ssh/k$i && ssh-add -q ~/.ssh/k$i || exit 9; done"
)
HARMLESS = [
    "HostKeyAlgorithms rsa-sha2-512",
    "AddressFamily inet6",
    "PubkeyAcceptedAlgorithms rsa-sha2-512",
    "PreferredAuthentications password",
    "PubkeyAuthentication no",
    "Ciphers aes128-cbc",
    "MACs hmac-md5",
    "KexAlgorithms diffie-hellman-group1-sha1",
    "BindAddress 192.0.2.1",
    "BindInterface nosuch0",
    "ProxyJump nowhere.example",
    "CanonicalizeHostname always\n  CanonicalDomains example.com\n  CanonicalizeFallbackLocal no",
    "GlobalKnownHostsFile /dev/null\n  UserKnownHostsFile /dev/null\n  VerifyHostKeyDNS yes",
    "NoHostAuthenticationForLocalhost yes",
    "CertificateFile ~/.ssh/id_ed25519-cert.pub",
    "ServerAliveCountMax 0",
    "VisualHostKey yes\n  Compression yes\n  ForwardX11 yes\n  SendEnv *\n  SetEnv A=b",
    "ControlMaster auto\n  ControlPath ~/.ssh/one-for-all\n  ControlPersist 5",
    "IdentityFile ~/.ssh/k1\n" + "\n".join(f"  IdentityFile ~/.ssh/k{i}" for i in range(2, 9)),
    "PKCS11Provider /nosuch.so\n  SecurityKeyProvider /nosuch.so",
    "LogLevel QUIET\n  StrictHostKeyChecking ask",
    "User nobody\n  Port 1\n  HostName nowhere.example\n  HostKeyAlias other\n  ProxyCommand false",
    "ProxyUseFdpass yes\n  Tunnel yes\n  RekeyLimit 1K\n  IPQoS none\n  TCPKeepAlive no\n  ConnectTimeout 1",
    "GSSAPIAuthentication yes\n  HostbasedAuthentication yes\n  EnableSSHKeysign yes\n  PasswordAuthentication yes",
    "IdentitiesOnly no\n  AddKeysToAgent confirm\n  NumberOfPasswordPrompts 0\n  FingerprintHash md5",
    "ForwardX11 yes\n  ForwardX11Trusted yes\n  XAuthLocation /nosuch\n  EscapeChar none\n  HashKnownHosts yes",
    "RequiredRSASize 4096\n  CASignatureAlgorithms rsa-sha2-512\n  HostbasedAcceptedAlgorithms rsa-sha2-512",
    "ClearAllForwardings yes\n  GatewayPorts yes\n  StreamLocalBindUnlink yes\n  IgnoreUnknown Use*\n  UseKeychain yes",
    "IdentityFile none\n  CertificateFile /nosuch\n  IdentityAgent /nosuch.sock\n  UpdateHostKeys yes",
    "BatchMode yes\n  ConnectionAttempts 3\n  ServerAliveInterval 1\n  CheckHostIP yes",
    "LocalForward 127.0.0.1:1 localhost:22\nMatch exec false\n  Port 2\nMatch all\n  Port 3",
    "User x\nMatch final all\n  HostKeyAlgorithms rsa-sha2-512\nMatch canonical\n  Port 4\nHost 127.* ::1\n  Port 5",
]
"""What a user may have set for every host; `ssh NAME` works all the same."""
HARMLESS_AFTER_A_COMMAND = [
    "SessionType none",
    "SessionType subsystem",
    "KnownHostsCommand /bin/false",
    "StdinNull yes",
    "ForkAfterAuthentication yes",
    "SessionType none\n  ForkAfterAuthentication yes\n  StdinNull yes",
    "RemoteCommand sleep 60",
    "PermitLocalCommand yes\n  LocalCommand false",
    "ProxyCommand false",
    "ProxyJump none.example\n  ProxyUseFdpass yes",
]
"""Options that OpenSSH 7.3 does not know, among others: an entry overrides them once a command has seen them set."""


@pytest.fixture(scope="module")
def box(cloud: Cloud, ada: Person) -> Iterator[Person]:
    """One box for all the settings, by name too."""
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "settings", "--disk", "none", "--wait")
    yield ada
    ada.ok("cancel", "settings", "--yes")
    ada.gpu_dev("wait", "settings")


@pytest.fixture(autouse=True)
def nothing_is_left() -> None:
    """The box outlives a test here; the module's fixture waits until it is gone."""


@pytest.fixture
def named(box: Person) -> Iterator[Person]:
    box.ok("config", "ssh-include", "enable")
    yield box
    box.run("bash", "-c", "for master in .gpu-dev/*.mux; do ssh -F none -o ControlPath=$master -O exit x; done")
    box.run("bash", "-c", "rm -f .ssh/config .ssh/k* .ssh/conf.d .ssh/*-cert.pub; rm -rf .ssh/conf.d .ssh/known_hosts")
    box.ok("list")


def everywhere(person: Person, settings: str) -> None:
    """Have these settings for every host, below the line that includes the reservations."""
    text = f"Include ~/.gpu-dev/*-sshconfig\nHost *\n  {settings}\n"
    person.run("bash", "-c", f"printf %s {shlex.quote(text)} > .ssh/config")


def with_agent(person: Person, *lines: str) -> Done:
    """Run lines of a shell with an agent of their own."""
    return person.run("ssh-agent", "bash", "-c", "\n".join(lines))


def test_no_setting_for_every_host_keeps_ssh_from_the_box(named: Person) -> None:
    named.run("bash", "-c", "for i in 1 2 3 4 5 6 7 8; do ssh-keygen -qt ed25519 -N '' -f .ssh/k$i; done")
    named.run("bash", "-c", "ssh-keygen -q -s .ssh/k1 -I me -n dev .ssh/id_ed25519.pub")
    failed = {}
    for settings in HARMLESS:
        everywhere(named, settings)
        done = named.run("ssh", "settings", "echo in")
        if done.out != "in\n":
            failed[settings] = done
    assert failed == {}


@pytest.mark.parametrize("settings", HARMLESS_AFTER_A_COMMAND)
def test_a_newer_option_for_every_host_keeps_ssh_from_no_box_after_a_command(named: Person, settings: str) -> None:
    everywhere(named, settings)
    named.ok("list")
    done = named.run("ssh", "settings", "cat", input="in\n")
    assert done.out == "in\n", done
    named.run("bash", "-c", "echo 'Include ~/.gpu-dev/*-sshconfig' > .ssh/config")
    named.ok("list")
    assert "SessionType" not in named.run("bash", "-c", "cat .gpu-dev/*-sshconfig").out


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("printf 'Host *\\n' > .ssh/config; chmod 666 .ssh/config", "Bad owner or permissions"),
        ("rm -f .ssh/config; mkdir .ssh/config", ""),
        ("ln -sf /nosuch .ssh/config", ""),
        ("printf 'Host \"x\\n' > .ssh/config", "no matching"),
        ("printf 'Include ~/.ssh/deep\\n' | tee .ssh/deep > .ssh/config", "Too many recursive"),
    ],
)
def test_a_configuration_that_ssh_cannot_read_locks_nobody_out(box: Person, line: str, told: str) -> None:
    try:
        box.run("bash", "-c", line)
        done = box.in_box("settings", "echo in")
        assert (done.code, done.out) == (0, "in\n"), done
        assert "Traceback" not in done.err
        assert told in done.err or "Connecting without them." in done.err
        assert box.gpu_dev("show", "settings").code == 0
    finally:
        box.run("rm", "-rf", ".ssh/config", ".ssh/deep")


def test_names_are_told_once_ssh_knows_them(named: Person) -> None:
    assert named.ok("config", "ssh-include", "enable").splitlines()[-1] == "Next: ssh settings"
    assert "ssh settings        ssh dev@" in named.ok("show", "settings")
    named.ok("config", "ssh-include", "disable")
    assert "ssh settings " not in named.ok("show", "settings")


def test_eight_keys_in_the_agent_do_not_hide_the_right_one(named: Person) -> None:
    done = with_agent(
        named,
        EIGHT,
        "ssh-add -q ~/.ssh/id_ed25519",
        "ssh settings echo by name",
        "gpu-dev connect settings -- hostname",
    )
    assert done.out == "by name\nsettings\n", done
    hidden = "mv ~/.ssh/id_ed25519 ~/.ssh/id_ed25519.pub ~"
    back = "mv ~/id_ed25519 ~/id_ed25519.pub ~/.ssh"
    lines = [EIGHT.replace("ssh-keygen", "test -e ~/.ssh/k$i || ssh-keygen"), "ssh-add -q ~/.ssh/id_ed25519", hidden]
    done = with_agent(named, *lines, "gpu-dev list >/dev/null; ssh settings echo agent only", back)
    assert done.out == "agent only\n", done


def test_an_agent_that_only_the_settings_name_is_used_and_its_keys_are_offered(named: Person) -> None:
    everywhere(named, "IdentityAgent ~/agent.sock")
    lines = [
        "ssh-agent -a ~/agent.sock > ~/agent.out; . ~/agent.out > /dev/null",
        "ssh-add -q ~/.ssh/id_ed25519; mv ~/.ssh/id_ed25519 ~/.ssh/id_ed25519.pub ~",
        "unset SSH_AUTH_SOCK",
        "gpu-dev list > /dev/null; ssh settings echo in",
        "gpu-dev connect settings --diagnose | grep 'your agent has'",
        "gpu-dev config set ssh_key ''; gpu-dev reserve -t t4 -g 1 -h 0.5 -n other --disk none",
        "mv ~/id_ed25519 ~/id_ed25519.pub ~/.ssh; kill $SSH_AGENT_PID",
    ]
    try:
        done = named.run("bash", "-c", "\n".join(lines))
    finally:
        named.ok("config", "set", "ssh_key", "~/.ssh/id_ed25519.pub")
    assert done.out.startswith("in\n  your agent has    SHA256:"), done
    assert "ssh-add -L > ~/agent.pub" in done.err


def test_a_passphrase_is_asked_for_and_a_setting_that_forbids_it_is_named(named: Person) -> None:
    named.run("ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", ".ssh/id_ed25519")
    try:
        with terminal(named, "gpu-dev", "connect", "settings", "--", "echo it is in") as screen:
            screen.answer("Enter passphrase", "secret\r")
            screen.expect("it is in")
            assert screen.ended() == 0
        everywhere(named, "BatchMode yes")
        done = named.in_box("settings", "true")
        assert done.code == 255
        assert "if it has a passphrase: ssh-add ~/.ssh/id_ed25519" in done.err
        assert "ssh may not ask   ~/.ssh/config:3: BatchMode yes" in done.err
    finally:
        named.run("ssh-keygen", "-q", "-p", "-P", "secret", "-N", "", "-f", ".ssh/id_ed25519")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("RevokedHostKeys /nosuch", "~/.ssh/config:3: RevokedHostKeys /nosuch"),
        ("KnownHostsCommand /bin/false", ""),
        ("SessionType none", ""),
        ("ForkAfterAuthentication yes", ""),
        ("StdinNull yes", ""),
    ],
)
def test_connect_gets_in_where_plain_ssh_cannot_and_names_the_line(named: Person, settings: str, told: str) -> None:
    everywhere(named, settings)
    done = named.in_box("settings", "cat", input="in\n")
    assert done.out == "in\n", done
    assert told in done.err
    assert ("Connecting without your own ssh settings." in done.err) is bool(told)


def test_a_forwarding_that_cannot_be_made_is_named_by_its_line(named: Person) -> None:
    taken = 42100 + LANE
    everywhere(named, f"ExitOnForwardFailure yes\n  LocalForward 127.0.0.1:{taken} localhost:22")
    listen = f"import socket,time; s=socket.create_server(('127.0.0.1',{taken})); print(flush=True); time.sleep(60)"
    hold = f"python3 -c {shlex.quote(listen)}"
    script = f"exec 3< <({hold}); read <&3; gpu-dev connect settings -- true; code=$?; kill $!; exit $code"
    done = named.run("bash", "-c", script)
    assert done.code == 255, done
    assert f"in the way   ~/.ssh/config:4: LocalForward 127.0.0.1:{taken}" in done.err, done
    assert "restarting" not in done.err


def test_a_shared_connection_never_leads_into_another_box(named: Person) -> None:
    everywhere(named, "ControlMaster auto\n  ControlPath ~/.ssh/one-for-all\n  ControlPersist 10")
    named.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "second", "--disk", "none", "--wait")
    try:
        for name in ("settings", "second", "settings"):
            assert named.run("ssh", name, "hostname").out == f"{name}\n"
        assert named.run("ssh", "-O", "check", "second").code == 0
    finally:
        named.ok("cancel", "second", "--yes")
        named.gpu_dev("wait", "second")


def test_the_output_of_a_command_arrives_unchanged(named: Person) -> None:
    everywhere(named, "RequestTTY force\n  RemoteCommand sleep 60")
    assert named.run("bash", "-c", "gpu-dev connect settings -- 'printf \"a\\nb\\n\"' | od -c").out.split()[1:5] == [
        "a",
        "\\n",
        "b",
        "\\n",
    ]


def test_diagnose_names_what_keeps_plain_ssh_out(named: Person) -> None:
    everywhere(named, "RevokedHostKeys /nosuch")
    told = named.ok("connect", "settings", "--diagnose")
    assert "ssh settings fails: Error checking host key" in told
    assert "in the way   ~/.ssh/config:3: RevokedHostKeys /nosuch" in told
    named.run("bash", "-c", "echo Nonsense yes >> .ssh/config")
    assert "Bad configuration option: nonsense" in named.ok("connect", "settings", "--diagnose")


def test_a_command_of_several_words_arrives_as_it_is_and_a_single_one_is_a_line(box: Person) -> None:
    def in_box(*command: str) -> str:
        return box.ok("connect", "settings", "--", *command)

    assert in_box("bash", "-c", "echo a; echo b") == "a\nb\n"
    assert in_box("printf", "%s|", "two  spaces", "$HOME", "", "it's", "*") == "two  spaces|$HOME||it's|*|"
    assert in_box("cd / && pwd; echo $0 $((1 + 1))").splitlines()[0] == "/"


def test_a_home_that_takes_no_files_is_no_obstacle_to_connect_and_promises_no_names(box: Person) -> None:
    box.ok("config", "ssh-include", "enable")
    box.run("bash", "-c", "mv .gpu-dev aside && mkdir -m 500 .gpu-dev")
    try:
        done = box.in_box("settings", "echo in")
        assert done.out == "in\n", done
        assert "ssh does not know your boxes by name here" in done.err
        shown = box.ok("show", "settings")
        assert "ssh settings " not in shown
        assert "vscode://" not in shown
    finally:
        box.run("bash", "-c", "rmdir .gpu-dev; mv aside .gpu-dev; rm .ssh/config")


def test_a_home_that_is_not_the_accounts_promises_no_names(box: Person) -> None:
    box.run("mkdir", "-p", "elsewhere/.ssh")
    home = str(box.home / "elsewhere")
    try:
        done = box.gpu_dev("config", "ssh-include", "enable", HOME=home)
        assert done.out.splitlines()[-1] == "Next: gpu-dev connect settings"
        assert f"{box.home}/.ssh/config" in done.err
        assert f"Include {home}/.gpu-dev/*-sshconfig" in done.err
        assert "ssh settings " not in box.ok("show", "settings", HOME=home)
        assert box.in_box("settings", "echo in", HOME=home).out == "in\n"
        box.run("bash", "-c", f"echo 'Include {home}/.gpu-dev/*-sshconfig' > .ssh/config")
        assert "ssh settings " in box.ok("show", "settings", HOME=home)
        assert box.run("ssh", "settings", "echo in", HOME=home).out == "in\n"
    finally:
        box.run("rm", "-rf", "elsewhere", ".ssh/config")


def test_a_uid_without_an_account_is_told_what_to_do(cloud: Cloud, box: Person) -> None:
    uid = 54000 + LANE
    home = cloud.folder / "nobody"
    home.mkdir(exist_ok=True)
    os.chown(home, uid, uid)
    environment = {"HOME": str(home), "PATH": f"{box.bin}:/usr/bin:/bin", "GPU_DEV_ENDPOINT": f"unix://{cloud.socket}"}

    def typed(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, env=environment, cwd=home, user=uid, group=uid, extra_groups=[], capture_output=True, text=True
        )

    key = (box.home / ".ssh/id_ed25519.pub").read_text()
    (home / "key.pub").write_text(key)
    assert typed("gpu-dev", "config", "set", "ssh_key", "key.pub").returncode == 0
    one = ("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "nobodys", "--disk", "none", "--wait")
    assert typed("gpu-dev", *one).returncode == 0
    try:
        done = typed("gpu-dev", "connect", "nobodys", "--", "true")
        assert done.returncode == 2
        assert f"ssh: No user exists for uid {uid}" in done.stderr
        assert "/etc/passwd" in done.stderr
        assert "restarting" not in done.stderr
    finally:
        typed("gpu-dev", "cancel", "nobodys", "--yes")
        typed("gpu-dev", "wait", "nobodys")


def test_a_queued_one_is_diagnosed_as_queued(box: Person) -> None:
    box.ok("reserve", "-t", "t4", "-g", "4", "-h", "0.5", "-n", "later", "--disk", "none")
    try:
        told = box.ok("connect", "later", "--diagnose")
        assert "is queued, position 1: it has no box yet. Starts by " in told
        assert "Wait for it: gpu-dev wait later" in told
    finally:
        box.ok("cancel", "later", "--yes")


@pytest.mark.parametrize(
    ("own", "place"),
    [
        ("Host olymp\n  HostName olymp.example\n", "~/.ssh/config:2"),
        ("Host other\nHost oly* !x\n  User me\n", "~/.ssh/config:3"),
        ("Match originalhost olymp\n  Port 7\n", "~/.ssh/config:2"),
        ("Include conf.d/*\n", "~/.ssh/conf.d/work:1"),
        ("", "~/.ssh/known_hosts:1"),
    ],
)
def test_a_name_of_ones_own_host_is_refused_and_never_hidden(named: Person, own: str, place: str) -> None:
    named.run(
        "bash",
        "-c",
        f"mkdir -p .ssh/conf.d; printf 'Host olymp\\n User me\\n' > .ssh/conf.d/work; printf '{own}' >> .ssh/config",
    )
    if not own:
        named.run("bash", "-c", "echo olymp $(cut -d' ' -f1,2 .ssh/id_ed25519.pub) > .ssh/known_hosts")
    before = named.run("ssh", "-G", "olymp").out
    one = ("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "--disk", "none")
    done = named.gpu_dev(*one, "-n", "olymp")
    assert done.code == 2
    assert f"olymp is a host of yours ({place})" in done.err
    assert "-n olymp-" in done.err or "-n box-olymp" in done.err
    assert "--yes" in done.err
    if "Match" not in own:
        return
    told = named.ok(*one, "-n", "olymp", "--yes", "--wait")
    try:
        name = f"olymp.{named.json('config', 'show')['context']}"
        assert f"ssh {name}   or   gpu-dev connect olymp" in told
        assert named.run("ssh", "-G", "olymp").out == before
        assert named.run("ssh", name, "hostname").out == "olymp\n"
        assert named.in_box("olymp", "hostname").out == "olymp\n"
    finally:
        named.ok("cancel", "olymp", "--yes")
        named.gpu_dev("wait", "olymp")
    told = named.ok(*one[:-1], "olymp", "--no-wait")
    named.ok("cancel", "olymp-2", "--yes")
    named.gpu_dev("wait", "olymp-2")


def test_a_match_exec_that_hangs_holds_no_command_up_and_changes_no_names(named: Person) -> None:
    named.run("bash", "-c", "printf 'Host olymp\\n  User me\\nMatch exec \"sleep 777\"\\n  User x\\n' >> .ssh/config")
    named.ok("list", timeout=60)
    hosts = named.run("bash", "-c", "cat .gpu-dev/*-sshconfig | grep ^Host").out
    assert hosts.startswith("Host settings settings.")
    done = named.gpu_dev("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "--disk", "none", "-n", "olymp", timeout=60)
    assert "olymp is a host of yours (~/.ssh/config:2)" in done.err
    assert named.run("pgrep", "-u", named.name, "-f", "sleep 777").out == ""


def test_an_agent_that_does_not_answer_is_named(named: Person) -> None:
    path = named.home / "silent.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        path.chmod(0o777)
        silent.listen(50)
        told = named.ok("connect", "settings", "--diagnose", SSH_AUTH_SOCK=str(path))
        assert f"Your agent does not answer, and ssh waits for it: {path}\n" in told
        assert "  without it   SSH_AUTH_SOCK= gpu-dev connect settings\n" in told
        assert "restarting" not in told
        everywhere(named, f"IdentityAgent {path}")
        assert f"~/.ssh/config:3: IdentityAgent {path}" in named.ok("connect", "settings", "--diagnose")
    path.unlink()
    assert named.in_box("settings", "echo in", SSH_AUTH_SOCK="").out == "in\n"


@pytest.mark.parametrize(("path", "mode"), [(".ssh", "700"), (".ssh/config", "600")])
def test_an_unreadable_ssh_folder_or_file_is_named_with_the_command_that_repairs_it(
    named: Person, path: str, mode: str
) -> None:
    blocked, repair = f"{named.home}/{path}", f"chmod {mode} {named.home}/{path}"
    note = f"ssh cannot read {blocked}, so it does not know your boxes by name. Repair it: {repair}\n"
    named.run("chmod", "000", path)
    try:
        listed = named.gpu_dev("list")
        assert (listed.code, listed.err) == (0, note)
        assert f"  names     {repair}\n" in named.ok("show", "settings")
        shown = named.ok("config", "show")
        assert f"ssh           {named.home}/.ssh/config cannot be read\nNext: {repair}\n" in shown
        enabled = named.gpu_dev("config", "ssh-include", "enable")
        assert (enabled.code, enabled.err.splitlines()[1]) == (2, f"  repair it   {repair}")
        done = named.in_box("settings", "echo in")
        assert done.err.startswith(note), done
        assert done.out == ("" if path == ".ssh" else "in\n")
        assert (f"  ssh cannot read your keys. Repair it: {repair}\n" in done.err) is (path == ".ssh")
        assert "ssh-keygen" not in done.err
        told = named.gpu_dev("connect", "settings", "--diagnose")
        assert (told.code, told.err) == (0, note)
    finally:
        named.run("bash", "-c", repair)
    assert named.gpu_dev("list").err == ""
    assert named.run("ssh", "settings", "echo in").out == "in\n"
