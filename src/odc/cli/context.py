"""What every command of `gpu-dev` works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from odc.cli.output import Output
from odc.cli.settings_file import read_endpoint

if TYPE_CHECKING:
    from odc.api.client import Client

DEFAULT_ENDPOINT = "unix:///run/odc/odc.sock"


@dataclass
class Session:
    """One run of a command.

    Attributes:
        home: the user's home folder.
        output: where people look.
        now: the time, in the user's zone.
        agent: address of the user's SSH agent; empty for none.
        endpoint_wanted: from the command line or the environment; empty for the settings' one.
        as_json: errors are JSON too.
    """

    home: Path
    output: Output
    now: Callable[[], datetime]
    agent: str = ""
    endpoint_wanted: str = ""
    as_json: bool = False
    _client: Client | None = field(default=None, repr=False)

    @property
    def folder(self) -> Path:
        """Where `gpu-dev` keeps the user's files."""
        return self.home / ".gpu-dev"

    @property
    def endpoint(self) -> str:
        """Where the cloud is asked: the command line, then the environment, then the settings, then the usual place."""
        return self.endpoint_wanted or read_endpoint(self.folder) or DEFAULT_ENDPOINT

    def client(self) -> Client:
        """The connection to the cloud; made when first asked for."""
        if self._client is None:
            from odc.api.client import Client

            self._client = Client(self.endpoint)
        return self._client
