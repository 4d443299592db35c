"""The manifest of the rights is the one that the code has."""

from __future__ import annotations

from odc.adapters.kubernetes.rights import PAGE, page


def test_the_manifest_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: make docs"
