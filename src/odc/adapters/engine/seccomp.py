"""The system calls of boxes: the engine's own profile without five groups of calls that reach past the box.

* `keyctl` and its siblings. The kernel counts keys by host user, and all boxes have the same ones: one box that takes
  all of them would keep every other box from starting.
* New user namespaces, unless the operator allows them. Inside of one a process has all capabilities: it could mount
  terminals without the box's limit, and reach far more of the kernel.
* Sockets to the hypervisor (`AF_VSOCK`), which no network namespace separates.
* `syslog`, the kernel's log: it names processes of the host and of other boxes, and many hosts let everybody read it.
* Commands of btrfs by `ioctl`, such as making subvolumes, which no quota of a disk counts: `seccomp_btrfs.py`.

Source: Podman's `seccomp.json` (containers-common), the OCI runtime specification, seccomp(2).
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from odc.adapters.engine.seccomp_btrfs import ioctl_rules
from odc.domain.errors import ProviderUnavailable
from odc.host import write_atomically

SOURCES = (Path("/etc/containers/seccomp.json"), Path("/usr/share/containers/seccomp.json"))
"""Where the engine's own profile is; the first that exists counts, as for the engine."""
_REFUSED = ("keyctl", "add_key", "request_key", "syslog")
_AF_VSOCK = 40
_CLONE_NEWUSER = 0x10000000
_S390 = ("s390", "s390x")


def write_profile(target: Path, nested: bool, sources: Iterable[Path] = SOURCES) -> Path | None:
    """Write the boxes' profile.

    Args:
        target: the file to write; its folder exists.
        nested: whether boxes may make user namespaces.
        sources: paths of the engine's profile, in order of preference.

    Returns:
        The target; None if the engine has no profile file, so that its built-in profile applies.

    Raises:
        ProviderUnavailable: the engine's profile cannot be read or understood, or the target not be written.
    """
    source = next((path for path in sources if path.exists()), None)
    if source is None:
        return None
    try:
        profile = restricted(json.loads(source.read_text()), nested)
        write_atomically(target, json.dumps(profile).encode(), 0o644)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProviderUnavailable(f"the engine's seccomp profile {source} cannot be used: {error}") from error
    return target


def restricted(profile: dict[str, Any], nested: bool) -> dict[str, Any]:
    """Return the profile without the calls that boxes may not use.

    Args:
        profile: the engine's.
        nested: whether user namespaces are allowed.
    """
    removed = {*_REFUSED, "ioctl", *(() if nested else ("clone", "clone3", "unshare"))}
    rules = [_without(rule, removed) for rule in profile["syscalls"]]
    kept = [_without_vsock(rule) for rule in rules if rule["names"]]
    return profile | {"syscalls": [*kept, *ioctl_rules(), *_denied(nested)]}


def _without(rule: dict[str, Any], removed: set[str]) -> dict[str, Any]:
    """Return the rule without these calls, unless it does not apply to boxes: a call must not have two actions."""
    if (rule.get("includes") or {}).get("caps"):
        return rule
    return rule | {"names": [name for name in rule["names"] if name not in removed]}


def _without_vsock(rule: dict[str, Any]) -> dict[str, Any]:
    arguments = rule.get("args") or []
    family_is_free = all(argument["index"] != 0 for argument in arguments)
    if rule["action"] != "SCMP_ACT_ALLOW" or "socket" not in rule["names"] or not family_is_free:
        return rule
    return rule | {"names": ["socket"], "args": [*arguments, _argument(0, "SCMP_CMP_NE", _AF_VSOCK)]}


def _denied(nested: bool) -> list[dict[str, Any]]:
    refused = {"action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPERM, "errno": "EPERM"}
    rules: list[dict[str, Any]] = [{"names": list(_REFUSED), **refused}]
    unsupported = {"action": "SCMP_ACT_ERRNO", "errnoRet": errno.EAFNOSUPPORT, "errno": "EAFNOSUPPORT"}
    rules.append({"names": ["socket"], "args": [_argument(0, "SCMP_CMP_EQ", _AF_VSOCK)], **unsupported})
    if nested:
        return rules
    # The flags of clone3 are in memory, which filters cannot read: without it the C library falls back to clone.
    rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS, "errno": "ENOSYS"})
    for name, index, where in (
        ("unshare", 0, {}),
        ("clone", 0, {"excludes": {"arches": list(_S390)}}),
        ("clone", 1, {"includes": {"arches": list(_S390)}}),
    ):
        for outcome, value in (({"action": "SCMP_ACT_ALLOW"}, 0), (refused, _CLONE_NEWUSER)):
            flags = _argument(index, "SCMP_CMP_MASKED_EQ", _CLONE_NEWUSER, value)
            rules.append({"names": [name], "args": [flags], **outcome, **where})
    return rules


def _argument(index: int, operator: str, value: int, second: int = 0) -> dict[str, Any]:
    return {"index": index, "value": value, "valueTwo": second, "op": operator}
