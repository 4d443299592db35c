"""The one place that names adapters: makes the backend and the cloud of a set of settings."""

from odc.entrypoints.bootstrap.local import LocalBackend

__all__ = ["LocalBackend"]
