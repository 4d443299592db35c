"""The one place that names adapters: makes the backend and the cloud of a set of settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from odc.operator.settings import Settings

if TYPE_CHECKING:
    from odc.entrypoints.bootstrap.machine import ServedBackend  # imports the server, which most commands do not need


def make_backend(settings: Settings, environment: Mapping[str, str]) -> ServedBackend:
    """Return the backend of these settings; its modules are imported only now.

    Args:
        settings: of the cloud.
        environment: for the programs that the backend starts.

    Raises:
        ModuleNotFoundError: the installation lacks a part of it.
    """
    if settings.context:
        from odc.entrypoints.bootstrap.kubernetes import KubernetesBackend

        return KubernetesBackend(settings, environment)
    from odc.entrypoints.bootstrap.local import LocalBackend

    return LocalBackend(settings, environment)
