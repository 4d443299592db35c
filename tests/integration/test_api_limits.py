"""What one user can make the cloud do and keep: rates on the wire, and messages that stay short."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.small_cloud import SmallCloud, small_cloud
from tests.wire import as_user, envelope, exchange, get, message

from odc.adapters.system.accounts import SystemAccounts
from odc.api.peer_credentials import recognizer
from odc.api.rates import FETCHES, REQUESTS
from odc.domain.errors import NotAllowed

SOURCE = Path(__file__).parents[2] / "src"
POST = "/v1/requests"
HUGE = "x" * 120_000
ONLY_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be other users")
FLOODER, NEIGHBOUR, ASKER, SENDER = 64201, 64202, 64203, 64204
_SEND = """
import sys
sys.path[:0] = sys.argv[2:]
from odc.api.client import Client
from odc.domain.requests import SetGithubUser
client = Client(sys.argv[1])
for _ in range(%d):
    client.set_github_user("")
"""


@pytest.fixture
def cloud(open_cloud: SmallCloud) -> SmallCloud:
    return open_cloud


def kept_open(body: bytes) -> bytes:
    head = f"POST {POST} HTTP/1.1\r\nHost: odc\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@ONLY_ROOT
def test_a_user_who_floods_is_told_when_to_come_back_and_others_are_served(cloud: SmallCloud) -> None:
    body = envelope({"kind": "cancel", "reservation": "nothing"})
    flood = kept_open(body) * (int(REQUESTS.burst) + 100) + message("POST", POST, body)
    everything = as_user(FLOODER, cloud.socket, flood)
    text = everything.head + everything.body.decode()
    # Some tokens come back meanwhile; a refusal may close the connection, whose other requests are not read.
    assert REQUESTS.burst <= text.count("HTTP/1.1 404") < REQUESTS.burst + 100
    assert "HTTP/1.1 429" in text
    assert "retry-after: 1" in text
    assert "asks too often; try again in 1 s" in text
    done = as_user(
        NEIGHBOUR, cloud.socket, message("POST", POST, envelope({"kind": "cancel", "reservation": "nothing"}))
    )
    assert done.status == 404
    assert as_user(FLOODER, cloud.socket, message("GET", "/v1/me")).status == 200


@ONLY_ROOT
def test_our_own_client_waits_and_all_its_requests_are_done(cloud: SmallCloud) -> None:
    script = _SEND % (REQUESTS.burst + 2)
    paths = [str(SOURCE), *(path for path in sys.path if "site-packages" in path)]
    words = [sys.executable, "-S", "-c", script, str(cloud.socket), *paths]
    done = subprocess.run(words, user=SENDER, group=SENDER, extra_groups=[], cwd="/", capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode == 0


@ONLY_ROOT
def test_github_is_not_asked_again_and_again_for_one_user(cloud: SmallCloud) -> None:
    body = envelope({"kind": "set_github_user", "login": "nobody"})
    sent = kept_open(body) * (int(FETCHES.burst) + 4) + message("POST", POST, body)
    answer = as_user(ASKER, cloud.socket, sent)
    text = answer.head + answer.body.decode()
    assert (text.count("HTTP/1.1 404"), text.count("HTTP/1.1 429")) == (FETCHES.burst, 5)
    assert "retry-after: 180" in text


@pytest.mark.parametrize(
    "request_",
    [
        {"kind": "reserve", "gpu_type": HUGE, "gpus": 1, "hours": 1.0},
        {"kind": "reserve", "gpu_type": "h100", "gpus": 3, "hours": 1.0, "name": HUGE},
        {"kind": "reserve", "gpu_type": "h100", "gpus": 3, "hours": 1.0, "disk": HUGE},
        {"kind": "reserve", "gpu_type": "b200", "gpus": 1, "hours": 1.0, "disk": HUGE, "name": HUGE},
        {"kind": "reserve", "gpu_type": "h100", "gpus": 1, "hours": 99.0, "disk": HUGE},
        {"kind": "reserve", "gpu_type": "h100", "gpus": 1, "hours": 1.0, HUGE: 1},
        {"kind": "cancel", "reservation": HUGE},
        {"kind": "cancel", "reservation": "a" * 120_000},
        {"kind": "set_github_user", "login": HUGE},
        {"kind": "set_own_keys", "keys": [HUGE]},
        {"kind": "set_own_keys", "keys": ["ssh-ed25519 " + "A" * 8000]},
        {"kind": "forget_user", "user": HUGE},
        {"kind": "move_user", "user": HUGE, "to": HUGE},
        {"kind": HUGE},
    ],
)
def test_no_answer_repeats_more_than_a_little_of_what_was_sent(cloud: SmallCloud, request_: dict[str, Any]) -> None:
    answer = exchange(cloud.socket, message("POST", POST, envelope(request_)))
    assert 400 <= answer.status < 500
    assert answer.error()["message"]
    assert len(answer.body) < 1500


@pytest.mark.parametrize("target", [f"/v1/reservations/{'x' * 30_000}", f"/v1/reservations?status={'x' * 30_000}"])
def test_no_answer_repeats_a_long_question(cloud: SmallCloud, target: str) -> None:
    answer = exchange(cloud.socket, message("GET", target))
    assert (answer.status in (400, 404), len(answer.body) < 1500) == (True, True)


def test_a_container_of_a_user_is_not_sixty_thousand_users(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text("# none\nada:700000:65536\n0:800000:10\nbroken\nbroken:x:y\n")
    accounts = SystemAccounts()

    def lender(uid: int) -> str | None:
        return accounts.find_lender(uid, file)

    assert [lender(uid) for uid in (699_999, 700_000, 765_535, 765_536, 800_009)] == [None, "ada", "ada", None, "root"]
    assert accounts.find_lender(700_000, tmp_path / "missing") is None
    with pytest.raises(NotAllowed, match="uid 700001 has no login, and is a subordinate uid of ada"):
        recognizer(frozenset(), lender)(700_001)
    assert recognizer(frozenset(), lender)(600_000).user == "uid600000"


@ONLY_ROOT
def test_a_subordinate_uid_is_refused_on_the_wire(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if str(folder).startswith("/tmp/pytest"):
            folder.chmod(0o755)
    with small_cloud(tmp_path, lender_of=lambda uid: "ada" if uid == FLOODER else None) as made:
        answer = as_user(FLOODER, made.socket, message("GET", "/v1/me"))
        assert (answer.status, answer.error()["error"]) == (403, "NotAllowed")
        assert "Ask as ada" in answer.error()["message"]
        assert as_user(NEIGHBOUR, made.socket, message("GET", "/v1/me")).status == 200
        assert get(made.socket, "/v1/me")["user"] == "root"
