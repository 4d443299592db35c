"""etcd, API server, controller manager, scheduler and DNS of a test cluster, as processes of the machine."""

from __future__ import annotations

from tests.cluster import processes
from tests.cluster.layout import API_PORT, DNS_READY_PORT, DOMAIN, ETCD_PORT, Layout

NODE_LOST_S = 20
"""A node that has reported nothing for so long becomes NotReady; it reports every 5 seconds."""


def start_etcd(layout: Layout) -> None:
    """Start the store of the API server, which takes nobody without a certificate: pods can reach it."""
    clients, peers = f"https://{layout.address}:{ETCD_PORT}", f"https://{layout.address}:{ETCD_PORT + 1}"
    keys = layout.certificates
    files = [f"cert-file={keys}/etcd.crt", f"key-file={keys}/etcd.key", f"trusted-ca-file={keys}/ca.crt"]
    secured = [*files, "client-cert-auth"]
    processes.start(
        layout,
        "etcd",
        [
            "etcd",
            "--name=test",
            f"--data-dir={layout.state}/etcd",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=test={peers}",
            *(f"--{who}{option}" for who in ("", "peer-") for option in secured),
            "--logger=zap",
            "--log-level=warn",
        ],
    )


def start_apiserver(layout: Layout) -> None:
    """Start the API server; it answers a few seconds later."""
    keys = layout.certificates
    processes.start(
        layout,
        "apiserver",
        [
            "kube-apiserver",
            f"--etcd-servers=https://{layout.address}:{ETCD_PORT}",
            f"--etcd-cafile={keys}/ca.crt",
            f"--etcd-certfile={keys}/etcd.crt",
            f"--etcd-keyfile={keys}/etcd.key",
            f"--advertise-address={layout.address}",
            f"--bind-address={layout.address}",
            f"--secure-port={API_PORT}",
            f"--tls-cert-file={keys}/apiserver.crt",
            f"--tls-private-key-file={keys}/apiserver.key",
            f"--client-ca-file={keys}/ca.crt",
            f"--token-auth-file={keys}/tokens",
            f"--kubelet-certificate-authority={keys}/ca.crt",
            f"--kubelet-client-certificate={keys}/kubelet-client.crt",
            f"--kubelet-client-key={keys}/kubelet-client.key",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={keys}/service-accounts.key",
            f"--service-account-signing-key-file={keys}/service-accounts.key",
            f"--service-cluster-ip-range={layout.services}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--profiling=false",
        ],
    )


def start_controller_manager(layout: Layout) -> None:
    """Start the controllers; they end if the API server does not answer within ten seconds."""
    processes.start(
        layout,
        "controller-manager",
        [
            "kube-controller-manager",
            f"--kubeconfig={layout.kubeconfigs}/controller-manager",
            f"--bind-address={layout.address}",
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={layout.certificates}/service-accounts.key",
            f"--root-ca-file={layout.certificates}/ca.crt",
            "--allocate-node-cidrs=false",
            "--node-monitor-period=2s",
            f"--node-monitor-grace-period={NODE_LOST_S}s",
        ],
    )


def start_scheduler(layout: Layout) -> None:
    """Start the scheduler; it waits for the API server."""
    own = [f"--kubeconfig={layout.kubeconfigs}/scheduler", f"--bind-address={layout.address}"]
    processes.start(layout, "scheduler", ["kube-scheduler", *own, "--leader-elect=false"])


def start_dns(layout: Layout) -> None:
    """Start the DNS server of pods, which knows no names outside the cluster; it waits for the API server."""
    path = layout.state / "Corefile"
    path.write_text(
        f"""{DOMAIN} in-addr.arpa {{
    bind {layout.address}
    errors
    ready {layout.address}:{DNS_READY_PORT}
    kubernetes {DOMAIN} in-addr.arpa {{
        kubeconfig {layout.kubeconfigs}/dns
        endpoint_pod_names
        ttl 1
    }}
}}
. {{
    bind {layout.address}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""
    )
    processes.start(layout, "dns", ["coredns", "-conf", str(path)])


PARTS = ("etcd", "apiserver", "controller-manager", "scheduler", "dns")
