"""The cached list, of which a command that waits replaces its own reservation only."""

from __future__ import annotations

import os
from pathlib import Path

from tests.unit.cli.screen import NOW, a_view, an_output

from odc.cli.context import Session
from odc.cli.local_state import FILE, cache_list, cache_view, find_cached
from odc.domain.status import Status


def test_one_reservation_is_replaced_and_the_others_stay_as_they_were_read(tmp_path: Path) -> None:
    session = Session(home=tmp_path, output=an_output(), now=lambda: NOW)
    session.folder.mkdir()
    waits, other = a_view(state=Status.PREPARING), a_view(id="0" * 32, name="other")
    cache_list(session, (waits, other))
    os.utime(session.folder / FILE, (NOW.timestamp(),) * 2)
    active = a_view(state=Status.ACTIVE)
    cache_view(session, active)
    found = find_cached(session)
    assert found is not None
    assert found == (NOW, (active, other))
