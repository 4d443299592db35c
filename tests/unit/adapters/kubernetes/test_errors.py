"""The API server's answers as errors that tell the control plane whether to try again."""

from __future__ import annotations

import pytest

from odc.adapters.kubernetes.errors import AlreadyThere, Changed, NotThere, Status, error_of
from odc.domain.errors import PlaceTaken, ProviderError, ProviderRefused, ProviderUnavailable

QUOTA = 'pods "train" is forbidden: exceeded quota: lab, requested: pods=1, used: pods=5, limited: pods=5'
PORT = 'Service "train" is invalid: spec.ports[0].nodePort: Invalid value: 30501: provided port is already allocated'
ADDRESSES = "Internal error occurred: failed to allocate a serviceIP: range is full"
PORTS = "Internal error occurred: failed to allocate a nodePort: range is full"


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        (401, Status("Unauthorized", "Unauthorized"), ProviderUnavailable),
        (403, Status("pods is forbidden: User cannot create", "Forbidden"), ProviderRefused),
        (403, Status(QUOTA, "Forbidden"), ProviderUnavailable),
        (404, Status("not found", "NotFound"), NotThere),
        (409, Status("exists", "AlreadyExists"), AlreadyThere),
        (409, Status("uid precondition failed", "Conflict"), Changed),
        (410, Status("too old", "Expired"), ProviderUnavailable),
        (422, Status("spec: Invalid value", "Invalid"), ProviderRefused),
        (429, Status("too many requests", "TooManyRequests"), ProviderUnavailable),
        (500, Status("etcdserver: request timed out", "InternalError"), ProviderUnavailable),
        (500, Status(PORTS, "InternalError"), PlaceTaken),
        (422, Status(PORT, "Invalid"), PlaceTaken),
        (500, Status(ADDRESSES, "InternalError"), PlaceTaken),
        (503, Status(), ProviderUnavailable),
    ],
)
def test_each_answer_is_passing_or_lasting(code: int, status: Status, kind: type[ProviderError]) -> None:
    assert type(error_of(code, status)) is kind


def test_the_words_are_one_line_of_bounded_length() -> None:
    assert str(error_of(422, Status("a\n b" * 500))) == f"Kubernetes: {('a b' * 500)[:299]}…"
    assert str(error_of(503, Status())) == "Kubernetes: HTTP status 503"
