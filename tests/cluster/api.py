"""Requests to the API server of a test cluster, as its administrator."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import Any

from tests.cluster.layout import DNS_READY_PORT, Layout

ATTEMPT_S = 5.0


def request(layout: Layout, path: str, method: str = "GET", body: object = None) -> Any:
    """The answer, decoded; text that is not JSON as it is.

    Args:
        layout: of the cluster.
        path: with the query.
        method: of HTTP. PATCH merges.
        body: is sent as JSON; bytes are YAML.

    Raises:
        OSError: the server cannot be reached, or answers with an error (`urllib.error.HTTPError`).
    """
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    kind = "application/yaml" if isinstance(body, bytes) else kind
    headers = {"Authorization": f"Bearer {_token(layout)}", "Content-Type": kind}
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    asked = urllib.request.Request(f"{layout.api}{path}", data, headers, method=method)
    context = ssl.create_default_context(cafile=str(layout.certificates / "ca.crt"))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with opener.open(asked, timeout=ATTEMPT_S) as answer:
        text = answer.read().decode()
    return json.loads(text) if text.startswith(("{", "[")) else text


def exists(layout: Layout, path: str) -> bool:
    """Whether there is an object at this path."""
    try:
        request(layout, path)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return False
        raise
    return True


def is_ready(layout: Layout) -> bool:
    """Whether the API server takes requests, with its built-in roles in place."""
    try:
        return bool(request(layout, "/readyz") == "ok")
    except OSError:
        return False


def ready_nodes(layout: Layout) -> set[str]:
    """The names of the nodes that are Ready; empty if the API server does not answer."""
    try:
        nodes = request(layout, "/api/v1/nodes")["items"]
    except OSError:
        return set()
    return {
        node["metadata"]["name"]
        for node in nodes
        if any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", ()))
    }


def is_dns_ready(layout: Layout) -> bool:
    """Whether the cluster's DNS server has read the services."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{layout.address}:{DNS_READY_PORT}/ready", timeout=ATTEMPT_S) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _token(layout: Layout) -> str:
    token: str = json.loads(layout.kubeconfig.read_text())["users"][0]["user"]["token"]
    return token
