"""The objects that a box is made of: names, rights, shares."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from msgspec.structs import replace

from odc.adapters.kubernetes import manifests
from odc.adapters.kubernetes.options import KubernetesOptions
from odc.domain.box import HOME, BoxMount, BoxName, BoxSpec
from odc.domain.errors import InvariantError
from odc.domain.resources import Capacity, share_of

OPTIONS = KubernetesOptions(cloud="lab", program=b"#!/bin/sh\n")
WHOLE = Capacity(cpu_millis=8000, memory_bytes=64 * 2**30)
SPEC = BoxSpec(
    name=BoxName("0123456789abcdef", 2, 1),
    node="n1",
    image="lab/box:1",
    hostname="train-1",
    gpus=(),
    gpu_type="h100",
    units=2,
    resources=share_of(WHOLE, 2, 8),
    files={"name": b"train\n"},
)
POD = manifests.BoxObject(SPEC.name, manifests.pod_name(SPEC), "u1")


def pod(spec: BoxSpec = SPEC, options: KubernetesOptions = OPTIONS, user_namespace: bool = True) -> dict[str, Any]:
    place = manifests.PodPlace("10.0.0.1", "odc-box-1", user_namespace)
    made: dict[str, Any] = manifests.pod(options, spec, place)["spec"]
    return made


def test_names_are_those_of_the_reservation_with_its_id_the_attempt_and_the_rank() -> None:
    assert manifests.pod_name(SPEC) == "train-01234567-2-1"
    assert manifests.dns_name(SPEC) == "train-01234567-1"


@pytest.mark.parametrize("hostname", ["7b", "x" * 80, "a_b.c", "Upper", "-", "a" * 44 + "-b"])
def test_any_host_name_becomes_a_name_that_a_service_may_have(hostname: str) -> None:
    for name in (
        manifests.pod_name(replace(SPEC, hostname=hostname)),
        manifests.dns_name(replace(SPEC, hostname=hostname)),
    ):
        assert re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name)


def test_a_box_has_a_user_namespace_no_token_and_no_further_rights() -> None:
    made = pod()
    assert (made["hostUsers"], made["automountServiceAccountToken"]) == (False, False)
    (container,) = made["containers"]
    assert container["securityContext"]["capabilities"] == {"add": ["AUDIT_WRITE"], "drop": ["NET_RAW", "MKNOD"]}
    assert not {"hostNetwork", "hostPID", "hostIPC", "nodeName"} & made.keys()
    assert "privileged" not in container["securityContext"]


def test_a_box_gets_its_share_and_its_gpus_and_a_type_without_gpus_none() -> None:
    (container,) = pod()["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "1800m", "memory": str(64 * 2**30 // 4 * 9 // 10), "nvidia.com/gpu": "2"},
        "limits": {"cpu": "3000m", "memory": str(24 * 2**30), "nvidia.com/gpu": "2"},
    }
    (container,) = pod(replace(SPEC, gpu_type="cpu-x86"))["containers"]
    assert "nvidia.com/gpu" not in container["resources"]["limits"]


def test_a_box_waits_at_its_gate_for_its_node_and_stays_there_while_the_node_is_silent() -> None:
    made = pod()
    assert made["schedulingGates"] == [{"name": "odc.dev/start"}]
    (term,) = made["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term == {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
    silent = [one for one in made["tolerations"] if one["key"].startswith("node.kubernetes.io/")]
    assert [one["effect"] for one in silent] == ["NoExecute", "NoExecute"]
    assert not any("tolerationSeconds" in one for one in silent)


def test_a_home_is_a_claim_or_temporary() -> None:
    def at_home(spec: BoxSpec) -> dict[str, Any]:
        made = pod(spec)
        (name,) = (m["name"] for m in made["containers"][0]["volumeMounts"] if m["mountPath"] == HOME)
        (volume,) = (volume for volume in made["volumes"] if volume["name"] == name)
        return {key: value for key, value in volume.items() if key != "name"}

    assert at_home(SPEC) == {"emptyDir": {}}
    claimed = replace(SPEC, mounts=(BoxMount(target=HOME, handle="disk-1"),))
    assert at_home(claimed) == {"persistentVolumeClaim": {"claimName": "disk-1"}}


@pytest.mark.parametrize(("is_new", "marker"), [(True, "new"), (False, "lost")])
def test_a_box_is_told_whether_it_may_mark_an_empty_disk(is_new: bool, marker: str) -> None:
    claimed = replace(SPEC, mounts=(BoxMount(target=HOME, handle="disk-1", is_new=is_new),))
    (container,) = pod(claimed)["containers"]
    assert {"name": "ODC_MARKER", "value": marker} in container["env"]
    (container,) = pod(SPEC)["containers"]
    assert [one["name"] for one in container["env"]] == ["ODC_GRACE"]


def test_what_belongs_to_a_box_is_deleted_with_its_pod() -> None:
    for made in (manifests.secret(OPTIONS, POD, SPEC.files), manifests.service(OPTIONS, POD, SPEC.ports, {})):
        (owner,) = made["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("Pod", "train-01234567-2-1", "u1")


def test_files_are_a_secret_without_folders() -> None:
    made = manifests.secret(OPTIONS, POD, SPEC.files)["data"]
    assert {path: base64.b64decode(text) for path, text in made.items()} == SPEC.files
    with pytest.raises(InvariantError, match="no folders"):
        manifests.secret_data({"a/b": b""})


def test_node_ports_lead_to_the_box_on_its_own_node_unless_users_have_one_address_for_all() -> None:
    assert manifests.service(OPTIONS, POD, SPEC.ports, {})["spec"]["externalTrafficPolicy"] == "Local"
    fixed = KubernetesOptions(cloud="lab", program=b"", address="boxes.example.org")
    assert manifests.service(fixed, POD, SPEC.ports, {})["spec"]["externalTrafficPolicy"] == "Cluster"


def test_another_odc_box_is_another_config_map() -> None:
    other = KubernetesOptions(cloud="lab", program=b"#!/bin/sh\n# newer\n")
    assert manifests.program(OPTIONS)["metadata"]["name"] != manifests.program(other)["metadata"]["name"]


def test_a_limit_of_what_a_box_writes_outside_its_volumes_requests_nothing() -> None:
    (container,) = pod()["containers"]
    assert "ephemeral-storage" not in container["resources"]["limits"]
    limited = KubernetesOptions(cloud="lab", program=b"", layer_bytes=2**30)
    (container,) = pod(options=limited)["containers"]
    assert container["resources"]["limits"]["ephemeral-storage"] == str(2**30)
    assert container["resources"]["requests"]["ephemeral-storage"] == "0"


def test_a_box_shares_the_users_of_its_node_only_where_there_is_no_other_way() -> None:
    assert pod()["hostUsers"] is False
    assert pod(user_namespace=False)["hostUsers"] is True
