"""Answers of real engines and the error classes that they are mapped to."""

from __future__ import annotations

import pytest

from odc.adapters.engine import errors
from odc.adapters.engine.errors import BY_STATUS, BY_WORDS, error_of, telling_line
from odc.domain.errors import PlaceTaken, ProviderError, ProviderRefused, ProviderUnavailable

ID = "5396a37f25e8a0d90eb11445ffe94cf54a76fda75c4e9f676aea85b44b2e3ace"
ANSWERS: tuple[tuple[int, str, type[ProviderError]], ...] = (
    (500, "cannot listen on the TCP port: listen tcp4 127.0.0.1:30000: bind: address already in use", PlaceTaken),
    (500, "rootlessport listen tcp 127.0.0.1:30000: bind: address already in use", PlaceTaken),
    (500, "subnet 10.88.0.0/28 is already used on the host or by another config", PlaceTaken),
    (500, "localhost/odc-box:1: image not known", errors.ImageUnknown),
    (404, "No such image: localhost/odc-box:1", errors.ImageUnknown),
    (500, f'creating container storage: the container name "odc-lab-1" is already in use by {ID}', errors.NameTaken),
    (409, f'the container name "odc-lab-1" is already in use by {ID}', errors.NameTaken),
    (409, "network name odc-lab-1 already used: network already exists", errors.EngineConflict),
    (404, 'no container with name or ID "odc-lab-1" found: no such container', errors.NotThere),
    (500, "invalid reference format", errors.NotRunnable),
    (500, "exec /usr/local/bin/odc-box: exec format error", errors.NotRunnable),
    (500, "OCI runtime attempted to invoke a command that was not found", errors.NotRunnable),
    (500, "crun: `/nope`: No such file or directory: OCI runtime attempted to invoke a command", errors.NotRunnable),
    (500, 'exec: "nope": executable file not found in $PATH', errors.NotRunnable),
    (500, "setting up CDI devices: unresolvable CDI devices nvidia.com/gpu=GPU-1", errors.NotRunnable),
    (500, f"unmounting {ID}: unlinkat /var/lib/containers/merged: device or resource busy", errors.Busy),
    (400, "failed to decode request", ProviderRefused),
    (500, "container state improper", ProviderUnavailable),
    (503, "status 503", ProviderUnavailable),
)


@pytest.mark.parametrize(("status", "words", "kind"), ANSWERS)
def test_an_answer_of_the_engine_has_its_class(status: int, words: str, kind: type[ProviderError]) -> None:
    error = error_of(status, words)
    assert type(error) is kind
    assert error.message.startswith(f"the engine: {words}")


def test_every_class_and_every_word_of_the_table_has_a_recorded_answer() -> None:
    own = {kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == errors.__name__}
    recorded = {kind for _, _, kind in ANSWERS}
    assert {kind for kind in own if issubclass(kind, ProviderError)} <= recorded
    assert {kind for kind, _ in BY_WORDS} | set(BY_STATUS.values()) <= recorded
    said = [words.lower() for _, words, _ in ANSWERS]
    assert [sign for _, signs in BY_WORDS for sign in signs if not any(sign in words for words in said)] == []


def test_a_missing_image_names_who_builds_one() -> None:
    assert error_of(500, "localhost/x: image not known").message.endswith("the operator builds the default image")


def test_the_telling_line_is_the_innermost_cause_of_the_last_line() -> None:
    wrapped = "warning: something\nrunc: runc create failed: unable to start container process: exec: no such file\n\n"
    assert telling_line(wrapped) == "exec: no such file"
    assert telling_line("") == ""
    assert len(telling_line("x" * 1000)) == errors.WORDS_LIMIT
