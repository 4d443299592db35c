"""Whatever a user's own ssh settings are: the box is reached, or the line in the way is named."""

from __future__ import annotations

import shlex

import pytest
from tests.e2e.cloud import Person
from tests.e2e.ssh.settings import everywhere
from tests.lane import listening_port

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]
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
    taken = listening_port(1)
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


def test_a_queued_one_is_diagnosed_as_queued(box: Person) -> None:
    box.ok("reserve", "-t", "t4", "-g", "4", "-h", "0.5", "-n", "later", "--disk", "none")
    try:
        told = box.ok("connect", "later", "--diagnose")
        assert "is queued, position 1: it has no box yet. Starts by " in told
        assert "Wait for it: gpu-dev wait later" in told
    finally:
        box.ok("cancel", "later", "--yes")
