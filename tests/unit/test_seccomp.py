"""The boxes' profile of system calls, made from the engine's."""

from __future__ import annotations

from typing import Any

import pytest

from odc.adapters.engine.seccomp import restricted

ENGINES: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "syscalls": [
        {"names": ["read", "clone", "unshare", "clone3", "keyctl", "syslog"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["add_key"], "action": "SCMP_ACT_ALLOW", "args": []},
        {"names": ["request_key", "clone3"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["clone", "mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": None, "includes": {"caps": ["CAP_AUDIT_WRITE"]}},
        {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8}]},
    ],
}


def allowed(profile: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The rules that allow a call to a box."""
    rules = [rule for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ALLOW" and name in rule["names"]]
    return [rule for rule in rules if (rule.get("includes") or {}).get("caps") != ["CAP_SYS_ADMIN"]]


@pytest.mark.parametrize("nested", [True, False])
def test_keys_and_the_kernels_log_are_never_allowed_and_other_calls_stay(nested: bool) -> None:
    profile = restricted(ENGINES, nested)
    assert not [name for name in ("keyctl", "add_key", "request_key", "syslog") if allowed(profile, name)]
    assert allowed(profile, "read")
    assert allowed(profile, "personality")[0]["args"] == [{"index": 0, "value": 8}]
    assert [rule["args"][0]["op"] for rule in allowed(profile, "socket")] == ["SCMP_CMP_NE"]


def test_new_processes_are_allowed_without_user_namespaces_only() -> None:
    profile = restricted(ENGINES, nested=False)
    assert not allowed(profile, "clone3")
    for name in ("clone", "unshare"):
        rules = allowed(profile, name)
        assert rules
        assert all(argument["value"] == 0x10000000 for rule in rules for argument in rule["args"])
        assert all(argument["valueTwo"] == 0 for rule in rules for argument in rule["args"])


def test_an_operator_allows_user_namespaces() -> None:
    profile = restricted(ENGINES, nested=True)
    assert all(allowed(profile, name)[0] == allowed(profile, "read")[0] for name in ("clone", "clone3", "unshare"))


def test_no_call_is_refused_in_two_ways() -> None:
    profile = restricted(ENGINES, nested=False)
    refused = [name for rule in profile["syscalls"] if rule["action"] == "SCMP_ACT_ERRNO" for name in rule["names"]]
    assert [refused.count(name) for name in ("keyctl", "add_key", "request_key", "syslog", "clone3")] == [1] * 5


def test_the_engines_own_profile_is_not_changed() -> None:
    before = repr(ENGINES)
    restricted(ENGINES, nested=False)
    assert repr(ENGINES) == before
