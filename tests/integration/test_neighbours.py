"""What a cloud has on its machine is refused to others: its GPUs too."""

from __future__ import annotations

from pathlib import Path

import pytest

from odc.domain.errors import ProviderRefused
from odc.operator.host_claims import check_claim, claimed
from odc.operator.settings import Settings


def settings(folder: Path, name: str, number: int) -> Settings:
    """A cloud that shares nothing with those of other numbers."""
    state = folder / name
    state.mkdir()
    first = 40000 + 100 * number
    network = f"10.{number}.0.0/16"
    return Settings(cloud=name, state=str(state), socket=str(state / "s"), ports=(first, first + 9), network=network)


def test_gpus_that_another_cloud_lends_are_refused_with_its_name(tmp_path: Path) -> None:
    first, second = settings(tmp_path, "first", 1), settings(tmp_path, "second", 2)
    with claimed(first, ("GPU-a", "GPU-b"), tmp_path):
        with pytest.raises(
            ProviderRefused, match="1 of this machine's GPUs, such as GPU-b, are lent by the cloud 'first'"
        ):
            check_claim(second, ("GPU-b", "GPU-c"), tmp_path)
        check_claim(second, ("GPU-c",), tmp_path)
        check_claim(first, ("GPU-a",), tmp_path)
    # Noted until the end of everything: boxes go on while the daemon is down.
    with pytest.raises(ProviderRefused, match="lent by"):
        check_claim(second, ("GPU-a",), tmp_path)
