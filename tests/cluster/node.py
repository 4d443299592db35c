"""A node of a test cluster: containerd, kubelet and kube-proxy in namespaces of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.cluster import cgroups, processes
from tests.cluster.control_plane import NODE_LOST_S
from tests.cluster.layout import DOMAIN, Layout, Node
from tests.cluster.programs import program_path
from tests.waiting import eventually

PAUSE_IMAGE = "odc.test/pause:1"
SIMULATED = "--node-labels=odc.dev/simulated=true"
CNI_PROGRAMS = "/usr/lib/cni"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
"""As the node sees it."""


def prepare(node: Node) -> None:
    """Make its folders, configuration and cgroups."""
    for name in ("lib/kubelet", "lib/containerd", "log/pods", "cni", "cdi"):
        (node.folder / name).mkdir(parents=True)
    (node.folder / "resolv.conf").write_text("")
    (node.folder / "cni" / "10-pods.conflist").write_text(json.dumps(_pod_network(node)))
    (node.folder / "containerd.toml").write_text(_containerd(node))
    (node.folder / "kubelet.json").write_text(json.dumps(_kubelet(node), indent=1))
    cgroups.create(node)


def start_init(node: Node) -> None:
    """Create the namespaces, after those of a killed node are gone; returns when programs can start in them."""
    layout = Layout(node.cluster)
    eventually(f"the former {node.name} is gone", lambda: not processes.is_alive(layout, node.part))
    started = node.folder / "started"
    started.unlink(missing_ok=True)
    script = str(Path(__file__).with_name("node_init.sh"))
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", script, str(node.folder)]
    processes.start(layout, node.part, ["nsenter", f"--net=/run/netns/{node.part}", "--", *unshare])
    eventually(f"{node.name} has its namespaces", lambda: started.exists() and processes.find_init(node))


def start_containerd(node: Node) -> None:
    """Start containerd and wait until it answers."""
    layout, part = Layout(node.cluster), f"containerd-{node.number}"
    processes.start(layout, part, ["containerd", "--config", str(node.folder / "containerd.toml")], node)
    asking = [*processes.entering(node), "ctr", "--address", CONTAINERD_SOCKET, "version"]
    environment = {"PATH": program_path()}
    eventually(
        f"containerd of {node.name} answers",
        lambda: subprocess.run(asking, env=environment, capture_output=True).returncode == 0,
    )


def start_kubelet(node: Node) -> None:
    """Start the kubelet; it waits for the API server."""
    layout = Layout(node.cluster)
    own = [f"--config={node.folder}/kubelet.json", f"--kubeconfig={layout.kubeconfigs / node.name}"]
    named = [f"--hostname-override={node.name}", f"--node-ip={node.address}", "--oom-score-adj=0", SIMULATED]
    processes.start(layout, f"kubelet-{node.number}", ["kubelet", *own, *named], node)


def start_proxy(node: Node) -> None:
    """Start kube-proxy, which makes services and NodePorts reachable; it waits for the API server."""
    layout = Layout(node.cluster)
    own = [f"--kubeconfig={layout.kubeconfigs}/proxy", f"--hostname-override={node.name}"]
    # Limits of connection tracking belong to the machine.
    limits = ["--conntrack-max-per-core=0", "--conntrack-min=0"]
    times = ["--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0"]
    rest = [f"--cluster-cidr={layout.pods}", "--proxy-mode=iptables", "--oom-score-adj=0"]
    processes.start(layout, f"proxy-{node.number}", ["kube-proxy", *own, *limits, *times, *rest], node)


def load_image(node: Node, archive: Path) -> None:
    """Give containerd the images of an archive, as `podman save` writes it."""
    ctr = ["ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io"]
    processes.run_inside(node, *ctr, "images", "import", "--local", str(archive))


def _pod_network(node: Node) -> dict[str, object]:
    addresses = {"type": "host-local", "ranges": [[{"subnet": node.pods}]], "routes": [{"dst": "0.0.0.0/0"}]}
    # Pods are routed, not bridged: a service whose pod is on the same node works without a bridge's firewall.
    link = {"type": "ptp", "ipMasq": False, "ipam": addresses}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [link, ports]}


def _containerd(node: Node) -> str:
    return f"""version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  enable_cdi = true
  cdi_spec_dirs = ["{node.folder}/cdi"]

[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{CNI_PROGRAMS}"]
  conf_dir = "{node.folder}/cni"
"""


def _kubelet(node: Node) -> dict[str, object]:
    keys = Layout(node.cluster).certificates
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(keys / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(keys / f"{node.name}.crt"),
        "tlsPrivateKeyFile": str(keys / f"{node.name}.key"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.part}",
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        # Images are loaded once: none is collected, however full the disk is.
        "imageGCHighThresholdPercent": 100,
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "clusterDNS": [Layout(node.cluster).address],
        "clusterDomain": DOMAIN,
        "resolvConf": str(node.folder / "resolv.conf"),
        "nodeLeaseDurationSeconds": NODE_LOST_S,
        "nodeStatusUpdateFrequency": "5s",
    }
