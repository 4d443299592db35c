"""One run of `odc`: the context of its commands, and their terminal output."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from odc.cli.ascii import escaped, is_utf8
from odc.cli.unwritten import give_up, unwritten_text
from odc.cli.wrap import wrap_line
from odc.domain.errors import InvalidRequest, NotAllowed, ProviderRefused
from odc.operator.backend import MakeBackend
from odc.operator.confirmation import as_typed
from odc.operator.daemon_state import daemon_pid, running_settings
from odc.operator.hints import typed_here
from odc.operator.ownership import check_owner
from odc.operator.settings import DEFAULT_FILE, Settings
from odc.operator.settings_edit import take_over
from odc.operator.settings_file import find_state_folder, read_settings
from odc.operator.settings_folders import check_folders

yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


@dataclass(frozen=True, slots=True)
class Program:
    """The context that the program passes to every command.

    Attributes:
        make_backend: for a set of settings.
        find_context: returns the settings of a cluster: the kubeconfig file, and its context of this name, or for None
            its current one. Raises `ProviderRefused` if there is none.
        serve: runs the daemon until it is stopped, with settings and their file; None for the usual file.
        ignored: inherited variables that are not used, described for the operator.
    """

    make_backend: MakeBackend
    find_context: Callable[[str | None], Mapping[str, str]]
    serve: Callable[[Settings, Path | None], None]
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Invocation:
    """One command line.

    Attributes:
        program: that runs it.
        file: the settings file that was named, absolute; None for the usual one.
    """

    program: Program
    file: Path | None

    def settings(self, **changes: object) -> Settings:
        """Return the settings of the cloud, overridden by the command line.

        Raises:
            InvalidRequest: they are invalid, or name the state folder of another cloud or a file in place of a folder.
        """
        settings = read_settings(self.file, changes)
        check_folders(settings)
        check_owner(settings)
        return settings

    def root_settings(self, options: Mapping[str, str]) -> Settings:
        """Return the settings for a command that changes the cloud; options remembered by version 0.1.0 are moved to
        the settings file.

        Args:
            options: settings that the command line gives.

        Raises:
            InvalidRequest: as `settings`.
            ProviderRefused: the settings file has to be changed and cannot be written.
        """
        settings = self.settings(**options)
        if take_over(settings, self.file or DEFAULT_FILE, options, say):
            settings = self.settings(**options)
        return settings

    def settings_to_stop(self, everything: bool) -> Settings:
        """Return the settings for `odc down`: if the file has a mistake, those of the running daemon.

        Args:
            everything: all reservations are to end, which needs a daemon.

        Raises:
            InvalidRequest, ProviderRefused: as `root_settings`, if no daemon runs that says its settings.
        """
        try:
            read_settings(self.file)
        except InvalidRequest as error:
            state = find_state_folder(self.file or DEFAULT_FILE)
            last = running_settings(state)
            if last is None or (everything and daemon_pid(state) is None):
                raise
            say(f"warning: {error.message}; using the settings of the last daemon of {state}")
            return last
        return self.root_settings({})


_unwritten: list[OSError] = []
"""Errors of `say` in this process."""


def say(text: str) -> None:
    """Print one line; on a terminal it is wrapped so that a command in it can still be pasted.

    A line that cannot be written does not end the command halfway: `check_written` reports it.
    """
    text = typed_here(text)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    try:
        for line in wrap_line(text, width) if width else [text]:
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except OSError as error:
        _unwritten.append(error)
        give_up(sys.stdout)


def check_written() -> None:
    """Called at the end of a command.

    Raises:
        ProviderRefused: a line of `say` could not be written. A reader that has closed its pipe has seen enough.
    """
    for error in _unwritten:
        if not isinstance(error, BrokenPipeError):
            raise ProviderRefused("done, but " + unwritten_text(error))


def echo_json(value: object) -> None:
    """Print one line of JSON."""
    text = msgspec.json.encode(value).decode()
    click.echo(text if is_utf8(sys.stdout.encoding) else escaped(text))


def need_root() -> None:
    """Return if this process is root's.

    Raises:
        NotAllowed: it is not.
    """
    if os.geteuid() != 0:
        raise NotAllowed("a cloud for all users of the machine is run by root", ("as root", f"sudo {as_typed()}"))
