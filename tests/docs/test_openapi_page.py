"""The OpenAPI document in the docs is the application's own."""

from __future__ import annotations

from pathlib import Path

from odc.entrypoints.bootstrap.openapi_page import PAGE, page

ROOT = Path(__file__).parents[2]


def test_the_openapi_document_is_up_to_date() -> None:
    assert (ROOT / PAGE).read_text() == page(), "run: make docs"
