"""Which DNS servers boxes ask, by the files of hosts as they are set up in the field."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.dns_server import serve_dns

from odc.adapters.engine.resolver import Resolver, answers, find_resolver

STUB = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lab.example\n"


def host(folder: Path, **files: str) -> Path:
    """A host with these files; `__` stands for `/`, and `_` for `.`, in their names."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_what_the_host_asks_in_the_network_boxes_ask_too(tmp_path: Path) -> None:
    text = "# made by hand\nsearch a.example\nnameserver 10.0.0.2 # first\nnameserver 127.0.0.1\nnameserver 10.0.0.2\n"
    host(tmp_path, etc__resolv_conf=text + "nameserver fe80::1%eth0\nnameserver 10.0.0.3\nsearch b.example c.example\n")
    found = find_resolver((), (), tmp_path)
    assert found == Resolver(("10.0.0.2", "10.0.0.3"), ("b.example", "c.example"), "/etc/resolv.conf")


@pytest.mark.parametrize(
    "upstream",
    ["run__systemd__resolve__resolv_conf", "run__NetworkManager__no-stub-resolv_conf", "run__dnsmasq__resolv_conf"],
)
@pytest.mark.parametrize("own", [STUB, "nameserver 127.0.0.1\nnameserver ::1\nsearch lab.example\n"])
def test_behind_a_resolver_on_the_loopback_its_own_servers_are_found(tmp_path: Path, upstream: str, own: str) -> None:
    host(
        tmp_path, etc__resolv_conf=own, **{upstream: "nameserver 10.1.1.1\nnameserver 10.1.1.2\nsearch other.example\n"}
    )
    found = find_resolver((), (), tmp_path)
    assert (found.servers, found.search) == (("10.1.1.1", "10.1.1.2"), ("lab.example",))
    assert found.source.startswith("/run/")


@pytest.mark.parametrize(
    ("name", "text", "servers"),
    [
        (
            "etc__dnsmasq_conf",
            "port=53\n#server=1.1.1.1\nserver=/corp.example/10.9.9.9\nserver=10.2.0.1\nserver=10.2.0.2#53\n",
            ("10.2.0.1", "10.2.0.2"),
        ),
        ("etc__dnsmasq_d__lab_conf", "resolv-file=/etc/upstream\n", ("10.3.0.1",)),
        ("etc__unbound__unbound_conf", 'forward-zone:\n  name: "."\n  forward-addr: 10.4.0.1\n', ("10.4.0.1",)),
    ],
)
def test_servers_in_the_settings_of_local_resolvers_are_found(
    tmp_path: Path, name: str, text: str, servers: tuple[str, ...]
) -> None:
    host(tmp_path, etc__resolv_conf="nameserver 127.0.0.1\n", etc__upstream="nameserver 10.3.0.1\n", **{name: text})
    assert find_resolver((), (), tmp_path).servers == servers


def test_the_setting_counts_before_everything_else(tmp_path: Path) -> None:
    host(tmp_path, etc__resolv_conf="nameserver 10.0.0.2\nsearch host.example\n")
    assert find_resolver(("10.5.0.1",), ("lab.example",), tmp_path) == Resolver(
        ("10.5.0.1",), ("lab.example",), "the setting dns"
    )
    assert find_resolver((), ("lab.example",), tmp_path).search == ("lab.example",)


@pytest.mark.parametrize(
    "text", ["", "nameserver 127.0.0.53\nsearch .\n", "nameserver 2001:db8::53\n", "nameserver x\n"]
)
def test_where_nothing_can_be_reached_nothing_is_named(tmp_path: Path, text: str) -> None:
    assert find_resolver((), (), host(tmp_path, etc__resolv_conf=text)) == Resolver()
    assert find_resolver((), (), tmp_path / "missing") == Resolver()


def test_a_server_answers_also_when_it_refuses() -> None:
    with serve_dns("127.0.0.1", "db.lab.test", "10.9.8.7", port=0) as port:
        assert answers("127.0.0.1", port)
    assert not answers("127.0.0.1", port, timeout_s=0.2)
