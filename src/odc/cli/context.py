"""The context of one `gpu-dev` command: the daemon's address, settings, terminal and time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from odc.cli.output import Output
from odc.cli.settings_file import FILE, read_endpoint
from odc.domain.commands import gpu_dev
from odc.domain.errors import Hint

if TYPE_CHECKING:
    from odc.api.client import Client

DEFAULT_ENDPOINT = "unix:///run/odc/odc.sock"
_MAX_BOX_HINTS = 3


@dataclass
class Session:
    """One run of a command.

    Attributes:
        home: the user's home folder.
        output: the terminal.
        now: the time, in the user's zone.
        agent: address of the user's SSH agent, from the environment; empty for none.
        account_home: the home of the user's account, which ssh uses whatever HOME says; None without an account.
        endpoint_typed: from the command line; empty if it was not given.
        endpoint_variable: from the environment; empty if it is not set.
        as_json: errors are JSON too.
        done: what the command has changed already, in words such as `reserved train`; empty for nothing.
        done_hints: how to see or undo it.
    """

    home: Path
    output: Output
    now: Callable[[], datetime]
    agent: str = ""
    account_home: Path | None = None
    endpoint_typed: str = ""
    endpoint_variable: str = ""
    as_json: bool = False
    done: str = ""
    done_hints: tuple[Hint, ...] = ()
    _client: Client | None = field(default=None, repr=False)
    _noted: set[str] = field(default_factory=set, repr=False)

    @property
    def folder(self) -> Path:
        """The folder of the user's `gpu-dev` files."""
        return self.home / ".gpu-dev"

    @property
    def endpoint(self) -> str:
        """The daemon's address: from the command line, else the environment, else the settings, else the default."""
        return self.endpoint_typed or self.endpoint_variable or self.current_endpoint

    @property
    def current_endpoint(self) -> str:
        """The address of the current cloud, that of the settings: a name that two clouds use is this one's for ssh."""
        return read_endpoint(self.folder) or DEFAULT_ENDPOINT

    @property
    def endpoint_source(self) -> str:
        """The source of the daemon's address, in words; empty for the default."""
        if self.endpoint_typed:
            return " (by --endpoint)"
        if self.endpoint_variable:
            return " (by GPU_DEV_ENDPOINT)"
        return f" (by {self.folder / FILE})" if read_endpoint(self.folder) else ""

    def _note_slow(self, hints: tuple[Hint, ...]) -> None:
        self.output.progress("")
        self.note_once("Waiting for the ODC daemon to answer.")
        for hint in hints[:1]:
            self.note_once(
                f"It is running but does not answer. If this goes on, {hint.label} (boxes go on): " + hint.command
            )

    def _endpoint_hints(self) -> tuple[Hint, ...]:
        """The source of the daemon's address and how to remove it; empty for the default and for the command line."""
        if self.endpoint_typed:
            return ()
        if self.endpoint_variable:
            return (Hint("endpoint from GPU_DEV_ENDPOINT", "unset GPU_DEV_ENDPOINT"),)
        if read_endpoint(self.folder):
            return (Hint(f"endpoint from {self.folder / FILE}", gpu_dev("config set endpoint ''")),)
        return ()

    def _box_hints(self) -> tuple[Hint, ...]:
        """Return commands that connect to locally known boxes while the ODC daemon does not answer."""
        from odc.cli import ssh_files

        names = ssh_files.names_of(self.folder, self.endpoint)
        return tuple(Hint("your boxes", gpu_dev(f"connect {name}")) for name in names[:_MAX_BOX_HINTS])

    def note_once(self, text: str) -> None:
        """Print a note next to the answer, at most once."""
        if text not in self._noted:
            self._noted.add(text)
            self.output.note(text)

    def record_done(self, what: str, *hints: tuple[str, str]) -> None:
        """Record what the command has changed: an error that follows, such as of a full disk, says it."""
        self.done, self.done_hints = what, tuple(Hint(*hint) for hint in hints)

    def client(self) -> Client:
        """The connection to the daemon; created on first use."""
        if self._client is None:
            from odc.api.client import Client

            self._client = Client(
                self.endpoint,
                endpoint_hints=self._endpoint_hints(),
                offline_hints=self._box_hints,
                on_slow=self._note_slow,
            )
        return self._client
