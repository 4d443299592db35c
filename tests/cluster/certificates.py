"""Certificates, tokens and kubeconfig files of a test cluster."""

from __future__ import annotations

import json
import secrets
import subprocess
from pathlib import Path

from tests.cluster.layout import Layout

USERS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
    "dns": ("dns", "system:masters"),
    "csi": ("csi", "system:masters"),
}
"""The name of a kubeconfig file to the user's name and group; nodes have files of their own."""


def create(layout: Layout) -> None:
    """Create a certificate authority, certificates of the API server, tokens and kubeconfig files."""
    layout.certificates.mkdir(mode=0o700)
    layout.kubeconfigs.mkdir(mode=0o700)
    _authority(layout.certificates)
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    own = [f"IP:{layout.address}", f"IP:{layout.first_service}", *(f"DNS:{name}" for name in names)]
    _certificate(layout.certificates, "apiserver", "/CN=kube-apiserver", f"subjectAltName={','.join(own)}")
    _certificate(layout.certificates, "etcd", "/CN=etcd", f"subjectAltName=IP:{layout.address}")
    _certificate(layout.certificates, "kubelet-client", "/O=system:masters/CN=apiserver", "extendedKeyUsage=clientAuth")
    for node in layout.nodes:
        subject = f"/O=system:nodes/CN=system:node:{node.name}"
        _certificate(layout.certificates, node.name, subject, f"subjectAltName=IP:{node.address},DNS:{node.name}")
    _openssl("genrsa", "-out", str(layout.certificates / "service-accounts.key"), "2048")
    users = USERS | {node.name: (f"system:node:{node.name}", "system:nodes") for node in layout.nodes}
    lines = []
    for file, (user, group) in users.items():
        token = secrets.token_hex(16)
        lines.append(f'{token},{user},{user},"{group}"\n')
        path = layout.kubeconfigs / file
        path.write_text(json.dumps(_kubeconfig(layout, user, token), indent=1))
        path.chmod(0o600)
    (layout.certificates / "tokens").write_text("".join(lines))


def _kubeconfig(layout: Layout, user: str, token: str) -> dict[str, object]:
    authority = str(layout.certificates / "ca.crt")
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": layout.api, "certificate-authority": authority}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
        "current-context": "test",
    }


def _authority(folder: Path) -> None:
    key, certificate = folder / "ca.key", folder / "ca.crt"
    subject = ["-subj", "/CN=odc-test-cluster", "-days", "3650"]
    _openssl("req", "-x509", *_new_key(key), "-out", str(certificate), *subject)


def _certificate(folder: Path, name: str, subject: str, extension: str) -> None:
    request, certificate = folder / f"{name}.csr", folder / f"{name}.crt"
    _openssl("req", *_new_key(folder / f"{name}.key"), "-out", str(request), "-subj", subject)
    extensions = folder / f"{name}.ext"
    extensions.write_text(extension)
    signer = ["-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key"), "-CAcreateserial", "-days", "3650"]
    _openssl("x509", "-req", "-in", str(request), *signer, "-extfile", str(extensions), "-out", str(certificate))
    request.unlink()
    extensions.unlink()


def _new_key(path: Path) -> list[str]:
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(path)]


def _openssl(*words: str) -> None:
    done = subprocess.run(["openssl", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
