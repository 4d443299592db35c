"""A user of two daemons, as a process of its own (see `tests.writers`): daemons know users by the uid of the caller."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from pathlib import Path

from tests.builders import KEY
from tests.leader import socket_of
from tests.waiting import eventually
from tests.writers import Say

from odc.api.client import Client
from odc.domain.errors import ProviderUnavailable, RequestError
from odc.domain.requests import Reserve
from odc.domain.status import LIVE

PAUSE_S = 0.1


def work(_say: Say, uid: int, folder: Path, daemons: tuple[str, ...], until: Path) -> Counter[str]:
    """Reserve and cancel, by any of the daemons, until the file `until` is there; how often what was done.

    A request may be refused, and a daemon may be away.
    """
    os.setuid(uid)
    dice, done = random.Random(uid), Counter[str]()
    _set_key(socket_of(folder, daemons[0]))
    while not until.exists():
        client = Client(str(socket_of(folder, dice.choice(daemons))), timeout_s=5)
        try:
            done[_act(client, dice)] += 1
        except (RequestError, ProviderUnavailable) as error:
            done[type(error).__name__] += 1
        finally:
            client.close()
        time.sleep(PAUSE_S)
    return done


def _set_key(socket: Path) -> None:
    client = Client(str(socket))
    eventually("a pass has ended", lambda: client.health().ready)
    client.set_own_keys((KEY,))
    client.close()


def _act(client: Client, dice: random.Random) -> str:
    mine = [view for view in client.reservations().reservations if view.state in LIVE]
    if mine and dice.random() < 0.15:
        client.cancel(dice.choice(mine).id)
        return "cancelled"
    gpus, disk = dice.choice([1, 2, 2, 4]), dice.choice(["none", "data", "code"])
    client.reserve(Reserve(gpu_type="h100", gpus=gpus, hours=0.0833, disk=disk, new_disk=True))
    return "reserved"
