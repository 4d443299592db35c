"""Which endpoints a client can connect to, and what it says of the others."""

from __future__ import annotations

import pytest

from odc.api.connectors import DEFAULT_SOCKET, connector_of, is_local
from odc.domain.errors import Hint, InvalidRequest


@pytest.mark.parametrize("endpoint", ["unix:///run/odc/lab.sock", "/run/odc/lab.sock"])
def test_a_socket_is_an_endpoint_of_this_machine(endpoint: str) -> None:
    connector = connector_of(endpoint)
    assert (connector.address, is_local(endpoint)) == ("/run/odc/lab.sock", True)
    assert connector.away_hints(FileNotFoundError()) == (Hint("start it", "sudo odc --config FILE up"),)
    assert connector.why_away(FileNotFoundError()) == "there is no ODC daemon on /run/odc/lab.sock"
    assert connector.why_away(ConnectionRefusedError()) == "the ODC daemon does not answer on /run/odc/lab.sock"


@pytest.mark.parametrize("error", [TimeoutError(), BlockingIOError()])
def test_a_daemon_that_accepts_connections_and_does_not_answer_is_restarted(error: OSError) -> None:
    connector = connector_of(f"unix://{DEFAULT_SOCKET}")
    assert connector.why_away(error) == f"the ODC daemon is running but does not answer on {DEFAULT_SOCKET}"
    assert connector.away_hints(error) == (
        Hint("restart it", "sudo odc down && sudo odc up"),
        Hint("look closer", "odc doctor"),
    )
    elsewhere = connector_of("unix:///run/odc/lab.sock").away_hints(error)
    assert elsewhere == (Hint("restart it", "sudo odc --config FILE down && sudo odc --config FILE up"),)


@pytest.mark.parametrize("endpoint", ["ssh://ada@lab", "https://lab.example:8443", "aws://us-east-2/lab", "SSH://lab"])
def test_a_kind_of_endpoint_that_is_planned_is_refused_by_name(endpoint: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        connector_of(endpoint, Hint("endpoint from GPU_DEV_ENDPOINT", "unset GPU_DEV_ENDPOINT"))
    scheme = endpoint.partition(":")[0].lower()
    assert refused.value.message == f"this version connects to unix:///path only, not by {scheme}:// as in {endpoint!r}"
    labels = [hint.label for hint in refused.value.hints]
    assert labels == ["for example", "endpoint from GPU_DEV_ENDPOINT"]
    assert not is_local(endpoint)


@pytest.mark.parametrize("endpoint", ["", "lab", "unix://lab.sock", "ftp://lab", "http://127.0.0.1"])
def test_what_is_not_an_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(InvalidRequest, match=r"is not unix:///path$"):
        connector_of(endpoint)
