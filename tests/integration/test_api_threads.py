"""One user's slow work does not keep another's from a thread."""

from __future__ import annotations

import asyncio
import threading

from odc.api.threads import Threads
from odc.domain.access import Principal

ADA = Principal(id="unix:1001", user="ada")
BEN = Principal(id="unix:1002", user="ben")


def test_one_user_never_takes_every_thread() -> None:
    go, begun = threading.Event(), list[str]()

    def slow() -> str:
        begun.append("one")
        assert go.wait(30)
        return "ada's"

    async def both() -> tuple[str, int, list[str]]:
        threads = Threads(per_user=2, total=3)
        adas = [asyncio.create_task(threads.run(ADA, slow)) for _ in range(10)]
        while len(begun) < 2:
            await asyncio.sleep(0.001)
        bens = [await asyncio.wait_for(threads.run(BEN, lambda: "ben's"), 30) for _ in range(5)]
        at_once = len(begun)
        go.set()
        return bens[-1], at_once, await asyncio.gather(*adas)

    assert asyncio.run(both()) == ("ben's", 2, ["ada's"] * 10)
