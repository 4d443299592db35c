"""The OpenAPI document says what the server does: its routes, what they answer, and what they take."""

from __future__ import annotations

import json
import os
import time
from copy import deepcopy
from typing import Any, get_args

import msgspec
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from tests.builders import KEY, an_id
from tests.small_cloud import SmallCloud
from tests.wire import Answer, as_user, envelope, exchange, get, message

from odc.domain.requests import Request
from odc.entrypoints.bootstrap import openapi_page

PAGE = "/v1/openapi.json"
POST = "/v1/requests"
SOMEBODY = 64124
"""A uid that nobody has."""
RESERVE = {"kind": "reserve", "gpu_type": "h100", "gpus": 8, "hours": 1.0, "disk": "none"}


@pytest.fixture
def cloud(open_cloud: SmallCloud) -> SmallCloud:
    return open_cloud


@pytest.fixture
def document(cloud: SmallCloud) -> Any:
    return get(cloud.socket, PAGE)


class Reader:
    """Asks the cloud, and holds every answer against what the document says of it, no field more and none less."""

    def __init__(self, cloud: SmallCloud, document: Any) -> None:
        self.heard: set[tuple[str, int]] = set()
        self._cloud = cloud
        self._document = document
        self._schemas = deepcopy(document["components"]["schemas"])
        for schema in self._schemas.values():
            schema.setdefault("additionalProperties", False)
            schema["required"] = list(schema["properties"])

    def get(self, path: str, reference: str = "", query: str = "") -> Any:
        """Ask a question; its answer, as documented for the path."""
        target = path.replace("{reference}", reference) + query
        return self._read(path, "get", exchange(self._cloud.socket, message("GET", target)))

    def post(self, body: bytes) -> Any:
        """Ask for something; the answer, as documented."""
        return self._read(POST, "post", exchange(self._cloud.socket, message("POST", POST, body)))

    def post_as(self, uid: int, body: bytes) -> Any:
        """The same from another user."""
        return self._read(POST, "post", as_user(uid, self._cloud.socket, message("POST", POST, body)))

    def ask(self, **request: Any) -> Any:
        """Ask for something with a new id."""
        return self.post(envelope(request, an_id()))

    def _read(self, path: str, method: str, answer: Answer) -> Any:
        responses = self._document["paths"][path][method]["responses"]
        schema = responses[str(answer.status)]["content"]["application/json"]["schema"]
        whole = {**schema, "components": {"schemas": self._schemas}}
        value = answer.json()
        Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)
        self.heard.add((path, answer.status))
        return value


@pytest.fixture
def reader(cloud: SmallCloud, document: Any) -> Reader:
    return Reader(cloud, document)


def test_it_is_a_valid_openapi_document(document: Any) -> None:
    validate(document)


def test_it_is_the_document_in_the_docs(document: Any) -> None:
    assert document == json.loads(openapi_page.page())


def test_it_has_every_route_that_is_served_and_no_other(cloud: SmallCloud, document: Any) -> None:
    served = {
        (route.path_format, method.lower())
        for route in cloud.app.routes
        for method in route.methods
        if method != "OPTIONS" and not route.path.startswith(PAGE)
    }
    described = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert described == served
    assert (POST, "post") in described


def test_every_answer_to_a_question_is_as_it_says(reader: Reader, document: Any) -> None:
    reader.ask(kind="set_own_keys", keys=[KEY])
    first = reader.ask(**RESERVE | {"name": "first", "disk": "mine"})
    waiting = reader.ask(**RESERVE | {"name": "waiting"})
    view = until(reader, first["id"], "active")
    assert view["boxes"][0]["ssh"]["port"]
    assert reader.get("/v1/reservations/{reference}", "waiting")["queue_position"] == 1
    for reference in (first["id"], waiting["id"]):
        assert reader.get("/v1/reservations/{reference}/history", reference)["events"]
    for path in ("/v1/avail", "/v1/status", "/v1/me", "/v1/health"):
        assert reader.get(path)
    for reference in (waiting["id"], first["id"]):
        reader.ask(kind="cancel", reservation=reference)
        until(reader, reference, "cancelled")
    assert len(reader.get("/v1/reservations", query="?all=true&user=all")["reservations"]) >= 2
    assert reader.get("/v1/disks")["disks"][0]["snapshot"]["verified"]
    if os.geteuid() == 0:
        assert reader.get("/v1/users")["users"][0]["disks"] == ["mine"]
        assert reader.get("/v1/storage")["disks"][0]["name"] == "mine"
    else:
        assert reader.get("/v1/users")["error"] == "NotAllowed"
        assert reader.get("/v1/storage")["error"] == "NotAllowed"
        reader.heard |= {("/v1/users", 200), ("/v1/storage", 200)}
    questions = {path for path, methods in document["paths"].items() if "get" in methods}
    assert {path for path, status in reader.heard if status == 200} == questions | {POST}
    reader.get("/v1/reservations", query="?all=perhaps")
    for path in ("/v1/reservations/{reference}", "/v1/reservations/{reference}/history"):
        reader.get(path, "nothing-of-this-name")
        assert (path, 404) in reader.heard
    assert ("/v1/reservations", 400) in reader.heard


def until(reader: Reader, reference: str, state: str) -> Any:
    """The reservation once it is in this state; every answer on the way is read."""
    end = time.monotonic() + 30
    while (view := reader.get("/v1/reservations/{reference}", reference))["state"] != state:
        assert time.monotonic() < end, view
    return view


def test_every_answer_to_a_request_is_as_it_says(reader: Reader) -> None:
    assert reader.ask(kind="set_own_keys", keys=[KEY])["keys"]
    held = [reader.ask(**RESERVE | {"gpus": 1}) for _ in range(10)]
    assert reader.ask(**RESERVE)["error"] == "LimitExceeded"
    assert reader.ask(kind="cancel", reservation=held[0]["id"])["name"] == held[0]["name"]
    assert reader.ask(kind="cancel", reservation="nothing-of-this-name")["error"] == "NotFound"
    assert reader.ask(kind="set_github_user", login="nobody")["error"] == "NotFound"
    assert reader.ask(kind="set_github_user", login="")["github_user"] == ""
    assert reader.post(b"{}")["error"] == "InvalidRequest"
    assert reader.post(b" " * 300_000)["error"] == "InvalidRequest"
    expected = {200, 400, 404, 413, 429}
    if os.geteuid() == 0:
        assert reader.ask(kind="end_all")["message"]
        assert reader.ask(kind="accept_clock")["message"]
        assert reader.post_as(SOMEBODY, envelope({"kind": "end_all"}, an_id()))["error"] == "NotAllowed"
        expected.add(403)
    for view in held:
        reader.ask(kind="cancel", reservation=view["id"])
    assert {status for _, status in reader.heard} == expected


def test_it_has_exactly_the_kinds_of_requests_that_there_are_and_closes_them(document: Any) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["Envelope"]["additionalProperties"] is False
    kinds = [entry["$ref"].rpartition("/")[2] for entry in schemas["Envelope"]["properties"]["request"]["oneOf"]]
    assert sorted(kinds) == sorted(kind.__name__ for kind in get_args(Request))
    for kind in get_args(Request):
        schema = schemas[kind.__name__]
        info = msgspec.inspect.type_info(kind)
        assert isinstance(info, msgspec.inspect.StructType)
        assert schema["additionalProperties"] is False
        assert schema["properties"]["kind"]["const"] == info.tag
        assert set(schema["properties"]) == {"kind", *(field.encode_name for field in info.fields)}
        assert set(schema["required"]) == {"kind", *(field.encode_name for field in info.fields if field.required)}


GOOD = {**RESERVE, "gpus": 1, "name": "good"}
TAKEN = {
    "as it should be": (GOOD, True),
    "an unknown field": ({**GOOD, "colour": "red"}, False),
    "who sends it": ({**GOOD, "user": "root"}, False),
    "an unknown kind": ({**GOOD, "kind": "explode"}, False),
    "no type": ({key: value for key, value in GOOD.items() if key != "gpu_type"}, False),
    "GPUs as text": ({**GOOD, "gpus": "1"}, False),
    "GPUs as a fraction": ({**GOOD, "gpus": 1.5}, False),
    "no name": ({**GOOD, "name": None}, True),
}


@pytest.mark.parametrize(("request_", "good"), TAKEN.values(), ids=TAKEN)
def test_it_takes_and_refuses_what_the_server_takes_and_refuses(
    reader: Reader, document: Any, request_: Any, good: bool
) -> None:
    reader.ask(kind="set_own_keys", keys=[KEY])
    body = envelope(request_, an_id())
    schema = {"$ref": "#/components/schemas/Envelope", "components": document["components"]}
    assert Draft202012Validator(schema).is_valid(json.loads(body)) == good
    answer = reader.post(body)
    assert ("id" in answer) == good, answer
    if good:
        reader.ask(kind="cancel", reservation=answer["id"])
