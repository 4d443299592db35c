"""The API server's answers as error classes: the only place that knows its status codes, reasons and words.

    ProviderError
    ├── ProviderUnavailable
    │   ├── PlaceTaken      no node port is free, or the one that was asked for is taken
    │   └── Changed         409: the object is not the one that was meant, or changed meanwhile
    └── ProviderRefused
        ├── AlreadyThere    409: an object of this name exists
        └── NotThere        404: no such object

Source: k8s.io/apimachinery 1.34, `pkg/apis/meta/v1/types.go` (StatusReason); k8s.io/apiserver 1.34, `pkg/admission`
(quota); `pkg/registry/core/service/storage/alloc.go` (node ports); `pkg/kubelet/images/types.go` (images).
"""

from __future__ import annotations

import msgspec

from odc.domain.errors import PlaceTaken, ProviderError, ProviderRefused, ProviderUnavailable

WORDS_LIMIT = 300
ALL_PORTS_USED = (
    "all node ports of the cluster are in use, and a box needs two; end boxes or other Services of type NodePort, or "
    "give the API server a larger --service-node-port-range (its default has 2768)"
)
_PORTS_USED = "failed to allocate a nodePort: range is full"
_IPS_USED = "range is full"
_PORT_TAKEN = "provided port is already allocated"
_QUOTA = "exceeded quota"
_NO_IMAGE = ("not found", "no match for platform", "insufficient_scope", "authorization failed", "invalid reference")
"""Of a registry that has answered. Other failures of a pull, such as of the network, may pass."""
_NEVER_PULLED = frozenset(("ErrImageNeverPull", "InvalidImageName"))
IMAGE_TROUBLES = frozenset(("ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable"))
"""Why a container waits whose image the node could not fetch."""


class Changed(ProviderUnavailable):
    """The object is not the one that was meant, or another writer has changed it. Nothing was changed."""


class AlreadyThere(ProviderRefused):
    """An object of this name exists. Nothing was changed."""


class NotThere(ProviderRefused):
    """The object does not exist."""


class Status(msgspec.Struct):
    """The API server's answer instead of an object."""

    message: str = ""
    reason: str = ""


def error_of(code: int, status: Status) -> ProviderError:
    """Return the error for an answer of the API server.

    Args:
        code: the HTTP status, 400 or more.
        status: the answer's body.
    """
    words = shortened(status.message) or f"HTTP status {code}"
    by_code: dict[int, type[ProviderError]] = {401: ProviderUnavailable, 404: NotThere, 409: Changed}
    if _PORTS_USED in status.message:
        return PlaceTaken(ALL_PORTS_USED)
    if _IPS_USED in status.message:
        return PlaceTaken(f"all addresses of Services are in use: {words}")
    if _PORT_TAKEN in status.message:
        return PlaceTaken(f"another Service has the node port: {words}")
    if status.reason == "AlreadyExists":
        return AlreadyThere(f"Kubernetes: {words}")
    if code == 401:
        return ProviderUnavailable(f"Kubernetes does not accept the credentials of the kubeconfig file: {words}")
    if code == 403 and _QUOTA in status.message:
        return ProviderUnavailable(f"the namespace's quota is used up: {words}")
    # 408 and 429: asked too slowly, or too often. 410: a list's next page is too old.
    passing = code >= 500 or code in (408, 410, 429)
    kind = by_code.get(code, ProviderUnavailable if passing else ProviderRefused)
    return kind(f"Kubernetes: {words}")


def image_refusal(image: str, reason: str, words: str) -> str:
    """Return why a container can never get its image; empty if the node may still fetch it.

    Args:
        image: as the pod names it.
        reason: why the container waits.
        words: the kubelet's message.
    """
    if reason in _NEVER_PULLED or (reason in IMAGE_TROUBLES and any(part in words for part in _NO_IMAGE)):
        return f"image not known: {image}: {shortened(words) or reason}"
    return ""


def shortened(words: str) -> str:
    """One line of bounded length."""
    line = " ".join(words.split())
    return line if len(line) <= WORDS_LIMIT else line[: WORDS_LIMIT - 1] + "…"
