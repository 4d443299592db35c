"""Bad input over the real socket: refused by name, and nothing is lost. Rows 1 to 8 of what ODC must survive."""

from __future__ import annotations

import http.client
import json
import os
import socket
import uuid
from typing import Any

import pytest
from tests.e2e.cloud import Cloud, Person

pytestmark = [pytest.mark.podman, pytest.mark.btrfs]


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("odc", timeout=30)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def post(cloud: Cloud, body: Any, **headers: str) -> tuple[int, Any]:
    """Send raw bytes or JSON to the API as root; status and answer."""
    connection = _Connection(str(cloud.socket))
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", "/v1/requests", body=data, headers={"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    raw = answer.read()
    connection.close()
    return answer.status, json.loads(raw)


def reserve(**changes: Any) -> dict[str, Any]:
    return {"kind": "reserve", "gpu_type": "h100", "gpus": 1, "hours": 1, "disk": "none", **changes}


def envelope(request: Any) -> dict[str, Any]:
    return {"id": uuid.uuid4().hex, "request": request}


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        ({"kind": "reboot"}, "reboot"),
        ({}, "kind"),
        (reserve(user="root"), "user"),
        (reserve(owner="unix:0"), "owner"),
        ({"kind": "reserve", "gpu_type": "h100", "gpus": 1}, "hours"),
        (reserve(hours="8"), "hours"),
        (reserve(hours=True), "hours"),
        (reserve(hours=None), "hours"),
        (reserve(gpus=1.5), "gpus"),
        (reserve(gpus=True), "gpus"),
        ({"kind": "cancel"}, "reservation"),
        ({"kind": "cancel", "reservation": 7}, "reservation"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(cloud: Cloud, request_: Any, named: str) -> None:
    status, answer = post(cloud, envelope(request_))
    assert status == 400
    assert answer["error"] == "InvalidRequest"
    assert named in answer["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"id": 1}', b'{"request": NaN}', b"\xff\xfe"])
def test_broken_bodies_are_refused(cloud: Cloud, body: bytes) -> None:
    status, answer = post(cloud, body)
    assert status == 400
    assert answer["error"] == "InvalidRequest"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hours": -1}, "0.0833"),
        ({"hours": 0}, "0.0833"),
        ({"hours": 1e308}, "24"),
        ({"hours": 24.01}, "24"),
        ({"gpus": -1}, "1, 2, 4, 8"),
        ({"gpus": 0}, "1, 2, 4, 8"),
        ({"gpus": 3}, "1, 2, 4, 8"),
        ({"gpus": 10**9}, "the largest has 8"),
        ({"gpu_type": "h10"}, "h100"),
        ({"gpu_type": "b200"}, "no 'b200'"),
        ({"gpu_type": "cpu-x86", "gpus": 1}, "no GPUs"),
        ({"disk": "../x"}, "not allowed"),
        ({"disk": ""}, "not allowed"),
        ({"disk": "x" * 10_000}, "not allowed"),
        ({"disk": "größe"}, "not allowed"),
        ({"name": 'x"; rm -rf ~'}, "not allowed"),
        ({"name": "none"}, "not allowed"),
    ],
)
def test_values_out_of_range_are_refused_with_the_range(cloud: Cloud, root_key: None, changes: Any, says: str) -> None:
    status, answer = post(cloud, envelope(reserve(**changes)))
    assert status in (400, 404)
    assert says in answer["message"]


@pytest.fixture(scope="module")
def root_key(cloud: Cloud, ada: Person) -> None:
    key = (ada.home / ".ssh/id_ed25519.pub").read_text()
    assert post(cloud, envelope({"kind": "set_own_keys", "keys": [key]}))[0] == 200


def test_the_same_request_ten_times_acts_once(cloud: Cloud, root_key: None) -> None:
    sent = envelope(reserve(name="once", gpu_type="t4"))
    answers = [post(cloud, sent) for _ in range(10)]
    assert {status for status, _ in answers} == {200}
    assert len({answer["id"] for _, answer in answers}) == 1
    other = {**sent, "request": reserve(name="twice", gpu_type="t4")}
    assert post(cloud, other)[0] == 400
    post(cloud, envelope({"kind": "cancel", "reservation": answers[0][1]["id"]}))


def test_a_refusal_is_repeated_too(cloud: Cloud, root_key: None) -> None:
    sent = envelope(reserve(hours=99))
    first, second = post(cloud, sent), post(cloud, sent)
    assert first == second
    assert first[0] == 400


def test_who_one_is_cannot_be_claimed(cloud: Cloud, ada: Person) -> None:
    status, answer = post(cloud, {**envelope(reserve()), "user": ada.name})
    assert status == 400
    assert "user" in answer["message"]
    forged = {"X-User": ada.name, "Authorization": "Basic YTph", "X-Forwarded-For": "1.2.3.4"}
    me = post(cloud, envelope({"kind": "set_github_user", "login": ""}), **forged)[1]
    assert (me["user"], me["principal"]) == ("root", f"unix:{os.getuid()}")


def test_anothers_request_id_is_refused_and_the_record_stays(cloud: Cloud, ada: Person, root_key: None) -> None:
    sent = envelope(reserve(name="rooted", gpu_type="t4"))
    made = post(cloud, sent)[1]
    script = (
        "import http.client, socket\n"
        "c = http.client.HTTPConnection('odc')\n"
        "c.sock = socket.socket(socket.AF_UNIX)\n"
        f"c.sock.connect('{cloud.socket}')\n"
        f"c.request('POST', '/v1/requests', {json.dumps(sent).encode()!r}, {{'Content-Type': 'application/json'}})\n"
        "print(c.getresponse().status)"
    )
    done = ada.run(str(ada.bin / "python"), "-c", script)
    assert done.out.startswith("403"), done
    assert made["id"] not in done.out
    post(cloud, envelope({"kind": "cancel", "reservation": made["id"]}))


def test_prefixes_that_are_too_short_or_not_ones_own_name_nothing(ada: Person, ben: Person) -> None:
    view = ada.json("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "prefix", "--disk", "none", "--wait")
    for reference in ("a", "", view["id"][:8], "prefix"):
        refused = ben.gpu_dev("show", reference)
        assert refused.code == 2
        assert view["boxes"][0]["ssh"]["command"] not in refused.out + refused.err
    assert ada.view(view["id"][:8])["id"] == view["id"]


def test_one_user_has_a_limit(ada: Person, ben: Person) -> None:
    for number in range(12):
        done = ada.gpu_dev("reserve", "-t", "cpu-x86", "-h", "0.5", "-n", f"l{number}", "--disk", "none", "--no-wait")
        if done.code:
            break
    assert number == 10
    assert "limit for one user is 10" in done.err
    assert "gpu-dev cancel" in done.err
    ben.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "free", "--disk", "none", "--wait")


def test_errors_in_json_go_to_stderr(ada: Person) -> None:
    done = ada.gpu_dev("show", "nothing-there", "--json")
    assert done.code == 2
    assert done.out == ""
    error = json.loads(done.err)
    assert error["error"] == "NotFound"
    assert error["hint"] == "gpu-dev list --all"


def test_a_disk_in_use_is_refused_with_its_holder(ada: Person) -> None:
    ada.ok("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "-n", "holder", "--disk", "held", "--wait")
    done = ada.gpu_dev("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "--disk", "held")
    assert done.code == 2
    assert "disk held is in use by holder" in done.err
    near = ada.gpu_dev("reserve", "-t", "t4", "-g", "1", "-h", "0.5", "--disk", "heldd")
    assert near.code == 2
    assert "did you mean held?" in near.err
