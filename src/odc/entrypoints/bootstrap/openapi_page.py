"""Makes `docs/reference/openapi.json` from the application: `python -m odc.entrypoints.bootstrap.openapi_page`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from odc.adapters.memory.blob_store import MemoryBlobStore
from odc.adapters.memory.cluster import MemoryCluster
from odc.adapters.memory.key_source import MemoryKeySource
from odc.adapters.memory.state_store import MemoryStateStore
from odc.adapters.memory.volumes import MemoryVolumes
from odc.adapters.system.accounts import SystemAccounts
from odc.adapters.system.clock import SystemClock
from odc.adapters.system.host_keys import OpensshHostKeys
from odc.adapters.system.wake import LocalWake
from odc.api.app import build_app
from odc.api.messages.cloud import Health
from odc.control.context import Policy, Ports
from odc.control.control_plane import ControlPlane
from odc.control.task_runner import InlineRunner
from odc.domain.access import Principal

PAGE = Path("docs/reference/openapi.json")


def page() -> str:
    """The whole document, as a daemon answers it at `/v1/openapi.json`; nothing is started."""
    clock, blobs, store = SystemClock(), MemoryBlobStore(), MemoryStateStore()
    ports = Ports(
        store=store,
        documents=store,
        history=store,
        leases=store,
        pruning=store,
        space=store,
        wake=LocalWake(),
        cluster=MemoryCluster(()),
        volumes=MemoryVolumes(clock, blobs),
        blobs=blobs,
        keys=MemoryKeySource(),
        host_keys=OpensshHostKeys(),
        clock=clock,
        accounts=SystemAccounts(),
    )
    app = build_app(ControlPlane(ports, Policy(), InlineRunner()), _health)
    document = msgspec.json.encode(app.openapi_schema.to_schema(), order="sorted")
    return msgspec.json.format(document, indent=2).decode() + "\n"


def _health(_: Principal) -> Health:
    return Health(ready=False, version="", cloud="", types={}, simulated=False, storage="", engine="")


if __name__ == "__main__":
    PAGE.write_text(page())
