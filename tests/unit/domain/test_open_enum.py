"""Words that a newer version may have written."""

from __future__ import annotations

import msgspec
import pytest

from odc.domain.event_kind import EventKind
from odc.domain.records import AuditEvent


@pytest.mark.parametrize("word", ["placed", "moved to another node"])
def test_a_word_is_read_and_written_unchanged_also_if_it_is_unknown(word: str) -> None:
    stored = {"reservation_id": "0" * 32, "at": "2026-03-04T14:00:00Z", "actor": "odc", "kind": word, "text": "…"}
    event = msgspec.convert(stored, AuditEvent)
    assert (event.kind == EventKind.PLACED) is (word == "placed")
    assert f"{event.kind}" == word
    assert msgspec.to_builtins(event)["kind"] == word


def test_a_word_that_is_not_text_is_refused() -> None:
    with pytest.raises(ValueError, match="3 is not a valid EventKind"):
        EventKind(3)  # type: ignore[arg-type]
