"""Ending boxes."""

from __future__ import annotations

from datetime import timedelta

from tests.waiting import eventually

from odc.domain.box import BoxName
from odc.ports.cluster import Cluster

AT_ONCE = timedelta(0)


def end_box(cluster: Cluster, name: BoxName, uid: str, grace: timedelta = AT_ONCE) -> None:
    """End the box, and wait until it is gone."""
    eventually(f"box {name} is gone", lambda: cluster.end_box(name, uid, grace))
