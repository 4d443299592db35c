"""Each limit of the settings file reaches the control plane."""

from __future__ import annotations

from datetime import timedelta

import pytest

from odc.operator.limit_settings import LimitSettings
from odc.operator.settings import Settings


@pytest.mark.parametrize("name", LimitSettings.__struct_fields__)
def test_a_limit_of_the_settings_is_in_effect(name: str) -> None:
    settings = Settings(timezone="UTC", limits=LimitSettings(**{name: 4321}))
    policy = settings.policy()
    field = name.removesuffix("_s")
    found = getattr(policy.limits if hasattr(policy.limits, field) else policy, field)
    assert (found.total_seconds() if isinstance(found, timedelta) else found) == 4321
