"""Files that people name as their key: the message says what the file is, and the command in it works when pasted."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.cloud import Done, Person
from tests.e2e.terminal import ENTER, terminal
from tests.small_cloud import SmallCloud
from tests.someone import someone

KEYGEN = ("ssh-keygen", "-q", "-N", "")


@pytest.fixture
def ada(cloud: SmallCloud, tmp_path: Path) -> Iterator[Person]:
    """Somebody with a home whose name must be quoted, and no key in the cloud."""
    person = someone(cloud, tmp_path, "my home")
    yield person
    person.ok("config", "set", "ssh_key", "")


def public_of(person: Person) -> str:
    """The line of the person's own public key."""
    return (person.home / ".ssh/id_ed25519.pub").read_text().strip()


def keygen(*arguments: str | Path) -> str:
    """What `ssh-keygen` prints."""
    words = ["ssh-keygen", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def openssl(*arguments: str | Path) -> bytes:
    """What `openssl` prints."""
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=True).stdout


def fingerprint_of(blob: bytes) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def set_to(person: Person, path: Path | str) -> Done:
    return person.gpu_dev("config", "set", "ssh_key", str(path))


def refused(person: Person, path: Path, *texts: str) -> str:
    """The command of the first way on; the file is refused with these words, and no key is set."""
    done = set_to(person, path)
    assert (done.code, done.out) == (2, "")
    for text in (str(path), *texts):
        assert text in done.err
    assert person.json("config", "show")["keys"] == []
    lines = done.err.splitlines()
    return lines[1].split("   ", 1)[1].strip() if len(lines) > 1 else ""


def pasted(person: Person, command: str) -> None:
    """The command works as it is written, and then one key is set."""
    done = person.run("bash", "-c", command)
    assert done.code == 0, f"{command}\n{done.err}"
    assert len(person.json("config", "show")["keys"]) == 1


def write(person: Person, name: str, content: str | bytes) -> Path:
    path = person.home / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("encoding", "mark", "end"),
    [
        ("utf-8", "", "\r\n"),
        ("utf-8", "", "\r"),
        ("utf-8", "\ufeff", "\n"),
        ("utf-16-le", "\ufeff", "\r\n"),
        ("utf-16-be", "\ufeff", "\r\n"),
        ("utf-16-le", "", "\r\n"),
        ("utf-16-be", "", "\n"),
        ("utf-32-le", "\ufeff", "\n"),
        ("latin-1", "", "\n"),
    ],
)
def test_a_key_file_of_a_windows_editor_is_read(ada: Person, encoding: str, mark: str, end: str) -> None:
    text = f"{mark}# mine{end}{public_of(ada)} of Jürgen\N{NO-BREAK SPACE}B{end}"
    path = write(ada, "key.pub", text.encode(encoding))
    assert "SHA256:" in ada.ok("config", "set", "ssh_key", str(path))
    (key,) = ada.json("config", "show")["keys"]
    assert key["comment"].startswith(public_of(ada).split()[2])


@pytest.mark.parametrize("space", ["\N{NO-BREAK SPACE}", "\N{ZERO WIDTH SPACE}", "\N{LINE SEPARATOR}", "\x85", "\x1b"])
def test_an_odd_space_in_a_comment_is_a_space(ada: Person, space: str) -> None:
    bare = " ".join(public_of(ada).split()[:2])
    path = write(ada, "key.pub", f"{bare} me{space}laptop\n")
    ada.ok("config", "set", "ssh_key", str(path))
    assert [key["comment"] for key in ada.json("config", "show")["keys"]] == ["me laptop"]


def test_several_keys_and_the_key_itself_are_taken(ada: Person) -> None:
    other = ada.home / "other"
    keygen("-q", "-N", "", "-t", "rsa", "-f", other)
    path = write(ada, "both", f"{public_of(ada)}\n\n# old\n{other.with_suffix('.pub').read_text()}")
    ada.ok("config", "set", "ssh_key", str(path))
    assert len(ada.json("config", "show")["keys"]) == 2
    ada.ok("config", "set", "ssh_key", public_of(ada))
    assert len(ada.json("config", "show")["keys"]) == 1


def test_a_private_key_beside_its_public_one_is_refused_with_that_one(ada: Person) -> None:
    command = refused(ada, ada.home / ".ssh/id_ed25519", "is a private key; it stays with you")
    assert command.endswith(".pub'")
    pasted(ada, command)


@pytest.mark.parametrize("format", ["RFC4716", "PEM", "PKCS8"])
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_private_key_alone_is_refused_with_what_makes_the_public(ada: Person, format: str, mode: int) -> None:
    path = ada.home / "aws key.pem"
    keygen("-q", "-N", "", "-t", "rsa", "-b", "2048", "-m", format, "-f", path)
    path.with_name("aws key.pem.pub").unlink()
    path.chmod(mode)
    command = refused(ada, path, "is a private key; it stays with you")
    assert "ssh-keygen -y -f" in command
    pasted(ada, command)


@pytest.mark.parametrize("public", [False, True])
def test_an_ed25519_key_in_pem_is_refused_with_what_makes_the_public(ada: Person, public: bool) -> None:
    private, path = ada.home / "private", ada.home / "aws key.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    openssl("pkey", "-in", private, "-out", path, *(["-pubout"] if public else []))
    pasted(
        ada, refused(ada, path, "is a public key in PEM format" if public else "is a private key; it stays with you")
    )
    (key,) = ada.json("config", "show")["keys"]
    number = openssl("pkey", "-in", private, "-pubout", "-outform", "DER")[-32:]
    assert key["fingerprint"] == fingerprint_of(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + number)


@pytest.mark.parametrize(("kind", "way"), [("rsa", 0), ("ed25519", 1)])
def test_an_encrypted_key_is_refused_with_a_command_for_each_kind(ada: Person, kind: str, way: int) -> None:
    path = ada.home / "key.pem"
    openssl("genpkey", "-algorithm", kind, "-aes256", "-pass", "pass:secret", "-out", path)
    path.chmod(0o600)
    refused(ada, path, "is a private key; it stays with you", "if it is an Ed25519 key")
    command = set_to(ada, path).err.splitlines()[way + 1].split("   ", 1)[1].strip()
    with terminal(ada, "bash", "-c", command) as screen:
        screen.answer("passphrase" if kind == "rsa" else "pass phrase", "secret" + ENTER)
        assert screen.ended() == 0
    assert len(ada.json("config", "show")["keys"]) == 1


@pytest.mark.parametrize(
    ("format", "kind", "name"),
    [
        ("RFC4716", "ed25519", "mine.pub"),
        ("RFC4716", "rsa", "mine"),
        ("PKCS8", "rsa", "mine.pub"),
        ("PKCS8", "ecdsa", "mine.pem"),
        ("PEM", "rsa", "mine.pub"),
    ],
)
def test_a_public_key_of_another_format_is_refused_with_its_conversion(
    ada: Person, format: str, kind: str, name: str
) -> None:
    keygen("-q", "-N", "", "-t", kind, "-f", ada.home / "source")
    path = write(ada, name, keygen("-e", "-m", format, "-f", ada.home / "source.pub"))
    command = refused(ada, path, "is a public key in", "OpenSSH's is needed")
    assert "ssh-keygen -i" in command
    pasted(ada, command)


def test_a_private_key_of_putty_is_named_as_such(ada: Person) -> None:
    lines = (
        "PuTTY-User-Key-File-3: ssh-ed25519",
        "Encryption: none",
        "Public-Lines: 1",
        "AAAA",
        "Private-Lines: 1",
        "secret",
    )
    path = write(ada, "mine.ppk", "\r\n".join(lines))
    command = refused(ada, path, "is a private key of PuTTY")
    assert command.startswith("puttygen -L ")
    assert "secret" not in set_to(ada, path).err
    write(ada, "mine.pub", public_of(ada) + "\n")
    pasted(ada, refused(ada, path, "is a private key of PuTTY"))


@pytest.mark.parametrize(
    "options", ['command="echo \\"hi\\" there",no-pty', "restrict", 'from="10.0.0.1"', "host,10.0.0.1"]
)
def test_options_in_front_of_a_key_are_refused_with_how_to_take_them_away(ada: Person, options: str) -> None:
    path = write(ada, "authorized_keys", f"# mine\n{options} {public_of(ada)}\n")
    command = refused(ada, path, "line 2", "has options or a host name in front of the key")
    pasted(ada, command)


def test_a_certificate_is_refused_with_the_key_beside_it(ada: Person) -> None:
    keygen("-q", "-N", "", "-t", "ed25519", "-f", ada.home / "ca")
    keygen("-q", "-s", ada.home / "ca", "-I", "me", ada.home / ".ssh/id_ed25519.pub")
    pasted(ada, refused(ada, ada.home / ".ssh/id_ed25519-cert.pub", "is an SSH certificate"))


@pytest.mark.parametrize(
    ("address", "way"),
    [
        ("https://github.com/octocat.keys", "gpu-dev config set github_user octocat"),
        ("http://www.github.com/Octo-Cat/", "gpu-dev config set github_user Octo-Cat"),
        ("github.com/octocat.keys", "gpu-dev config set github_user octocat"),
        (
            "https://gitlab.com/o.keys",
            "curl -fsSL https://gitlab.com/o.keys > ~/keys.pub && gpu-dev config set ssh_key ~",
        ),
        ("https://github.com/a/b", "curl -fsSL https://github.com/a/b > ~/keys.pub"),
    ],
)
def test_an_address_is_refused_as_one_with_the_command_that_takes_its_keys(ada: Person, address: str, way: str) -> None:
    done = set_to(ada, address)
    assert (done.code, done.out) == (2, "")
    first, command = done.err.splitlines()[:2]
    assert first == f"error: '{address}' is an address, and ssh_key is a file"
    assert way in command


@pytest.mark.skipif(shutil.which("curl") is None, reason="the command needs curl")
def test_the_command_for_an_address_sets_the_keys_there(ada: Person) -> None:
    address = (ada.home / ".ssh/id_ed25519.pub").as_uri()
    command = set_to(ada, address).err.splitlines()[1].split("   ", 1)[1].strip()
    pasted(ada, command)


def test_what_is_not_an_ssh_key_is_named(ada: Person) -> None:
    texts = {
        "": "is empty",
        "\n \n": "is empty",
        "# nothing\n": "holds no public key",
        "hello\n": "line 1: 'hello' is not a public SSH key",
        "-----BEGIN CERTIFICATE-----\nMIIB\n": "is an X.509 certificate",
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n": "is a PGP key",
        "ssh-dss AAAA me\n": "is a DSA key",
        "ssh-ed25519\n": "names a kind of key without the key",
        public_of(ada)[:50]: "is damaged",
        "ssh-rsa " + "A" * 9000: "longer than 8192 characters",
        "x" * 70_000: "is larger than 64 KiB",
        "\x7fELF\0\0": "is a binary file",
        "\0\0\0\0\0": "is a binary file",
    }
    for text, told in texts.items():
        path = write(ada, "file", text)
        refused(ada, path, told)
        assert len(set_to(ada, path).err) < 600


def test_a_folder_or_a_name_that_is_not_there_leads_to_the_key(ada: Person) -> None:
    pasted(ada, refused(ada, ada.home / ".ssh", "is a directory"))
    ada.ok("config", "set", "ssh_key", "")
    (ada.home / ".ssh/id_ed25519").rename(ada.home / "away")
    pasted(ada, refused(ada, ada.home / ".ssh/id_ed25519", "cannot be read: No such file"))


def test_a_pipe_without_a_writer_is_not_waited_for(ada: Person) -> None:
    os.mkfifo(ada.home / "pipe.pub")
    refused(ada, ada.home / "pipe.pub", "is not a regular file")
    os.mkfifo(ada.home / ".ssh/another.pub")
    assert re.search(r"Next: gpu-dev config set ssh_key .*id_ed25519.pub", ada.ok("config", "show"))
    done = ada.run("bash", "-c", "gpu-dev config set ssh_key <(cat ~/.ssh/id_ed25519.pub)")
    assert (done.code, "SHA256:" in done.out) == (0, True)


@pytest.mark.parametrize("login", ["foo-", "a--b", "-jerry-", "--x", "jane_corp", "-hans"])
def test_every_login_that_github_has_reaches_the_server(ada: Person, login: str) -> None:
    done = ada.gpu_dev("config", "set", "github_user", login)
    assert (done.code, f"GitHub has no user {login}" in done.err) == (2, True), done.err
    done = ada.gpu_dev("config", "set", "github_user", login, "--json")
    assert (done.code, f"GitHub has no user {login}" in done.err) == (2, True), done.err


@pytest.mark.parametrize("typed", ["@octocat", "https://github.com/octocat", "github.com/octocat.keys"])
def test_a_login_typed_as_an_address_is_refused_with_the_name_alone(ada: Person, typed: str) -> None:
    done = ada.gpu_dev("config", "set", "github_user", typed)
    assert (done.code, "gpu-dev config set github_user octocat\n" in done.err) == (2, True)


def test_the_help_of_setting_is_still_shown(ada: Person) -> None:
    assert "Usage: gpu-dev config set" in ada.ok("config", "set", "--help")
    assert "Usage: gpu-dev config set" in ada.ok("config", "set", "github_user", "--help")
