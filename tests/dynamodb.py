"""DynamoDB Local, Amazon's own test server, for the tests of one session."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError
from tests.components import DYNAMODB_LOCAL
from tests.waiting import eventually

from odc.adapters.dynamodb.state_store import DynamoStateStore

REGION = "eu-west-1"
VARIABLES = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
"""The server takes any credentials."""


@contextmanager
def private_dynamodb() -> Iterator[str]:
    """The address of a server that is started here and stopped afterwards; it keeps everything in memory."""
    os.environ.update(VARIABLES)
    port = _free_port()
    jars = f"{DYNAMODB_LOCAL}/*"
    server = "software.amazon.dynamodb.services.local.main.ServerRunner"
    with tempfile.TemporaryDirectory(prefix="odc-dynamodb-") as folder:
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(
                ["java", "-Xmx512m", "-cp", jars, server, "-inMemory", "-disableTelemetry", "-port", str(port)],
                cwd=folder,
                stdout=log,
                stderr=log,
            )
        try:
            eventually("DynamoDB Local answers", lambda: _answers(process, port, Path(folder) / "log"))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def _answers(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    session = boto3.session.Session()
    client = session.client("dynamodb", region_name=REGION, endpoint_url=f"http://127.0.0.1:{port}")
    try:
        client.list_tables()
    except botocore.exceptions.BotoCoreError:
        return False
    finally:
        client.close()
    return True


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def new_table(address: str, name: str = "", attempts: int = 4) -> DynamoStateStore:
    """A store over a table of its own; with a name, over the table of that name."""
    os.environ.update(VARIABLES)
    return DynamoStateStore(name or f"odc-{uuid.uuid4().hex}", REGION, address, attempts)


class Answer(io.BytesIO):
    """The body of an answer, as the HTTP library gives it."""

    def stream(self) -> Iterator[bytes]:
        yield self.read()


class Network:
    """What happens to the calls of one store on their way."""

    def __init__(self, store: DynamoStateStore) -> None:
        self.throttled = False
        self.lost_answers: Counter[str] = Counter()
        self.calls: list[str] = []
        self._client = store._table.client
        self._client.meta.events.register("before-send.dynamodb", self._before_send)  # type: ignore[arg-type]

    def _before_send(self, request: Any, event_name: str, **_: Any) -> AWSResponse | None:
        operation = event_name.rpartition(".")[2]
        self.calls.append(operation)
        if self.throttled:
            body = json.dumps({"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": "slow"})
            headers: Any = {}
            return AWSResponse(request.url, 400, headers, Answer(body.encode()))
        if self.lost_answers[operation]:
            self.lost_answers[operation] -= 1
            self._client._endpoint.http_session.send(request)  # type: ignore[attr-defined]
            raise ConnectionClosedError(endpoint_url=request.url)
        return None
