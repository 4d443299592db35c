"""`gpu-dev config`: the user's name and keys as the daemon knows them, and the SSH configuration."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click
import msgspec

from odc.api.messages.reservations import ReservationView
from odc.api.messages.users import KeySource, Me
from odc.cli import local_state, screens, ssh_files, ssh_include, ssh_names, ssh_setup
from odc.cli.command_aliases import CONFIG_REPLACEMENTS, INCLUDE_REPLACEMENTS
from odc.cli.context import Session
from odc.cli.key_files import read_keys
from odc.cli.local_keys import find_public_keys, in_home
from odc.cli.options import json_option, pass_session
from odc.cli.settings_file import FILE, read_settings, write_setting
from odc.cli.subcommand_group import SubcommandGroup
from odc.domain.commands import gpu_dev
from odc.domain.errors import InvalidRequest, ProviderUnavailable
from odc.domain.names import cut, near_match
from odc.domain.ssh_keys import KINDS, parse_public_key
from odc.domain.status import Status


@click.group(cls=SubcommandGroup, program=gpu_dev, replacements=CONFIG_REPLACEMENTS)
def config() -> None:
    """Show and set your keys and files."""


@config.command()
@json_option
@pass_session
def show(session: Session, as_json: bool) -> None:
    """Show your user name, your keys, and your files.

    While the ODC daemon does not answer, only locally known values are shown.
    """
    me: Me | None = None
    views: tuple[ReservationView, ...] = ()
    away: ProviderUnavailable | None = None
    try:
        me = session.client().me()
        views = local_state.sync(session)
    except ProviderUnavailable as error:
        away = error
    files = [_ssh_file(session.folder, path, views) for path in ssh_include.config_files(session.home)]
    if as_json:
        mine = {
            "endpoint": session.endpoint,
            "context": ssh_names.context_of(session.endpoint),
            "settings": str(session.folder / FILE),
            "ssh_files": files,
            "answers": away is None,
        }
        known = dict.fromkeys(Me.__struct_fields__) if me is None else msgspec.to_builtins(me)
        session.output.json(known | mine)
    else:
        _show_lines(session, me, files)
    if away is not None:
        raise away


def _show_lines(session: Session, me: Me | None, files: Sequence[dict[str, str | bool | None]]) -> None:
    output = session.output
    output.lines(screens.me_lines(me) if me is not None else screens.unknown_me_lines())
    output.line(f"endpoint      {session.endpoint}{session.endpoint_source}")
    output.line(f"context       {ssh_names.context_of(session.endpoint)}")
    output.line(f"settings      {session.folder / FILE}")
    if me is None and (key := read_settings(session.folder).get("ssh_key")):
        output.line(f"ssh_key       {in_home(session.home, Path(key))}, as it was set here")
    in_use = set(map(str, ssh_include.files_in_use(session.home)))
    for file in (file for file in files if file["path"] in in_use):
        state = "includes your reservations" if file["included"] else "does not include your reservations"
        state += ", but another setting in it prevents that" if file["in_effect"] is False else ""
        state = "cannot be read" if ssh_include.unreadable(Path(str(file["path"]))) else state
        output.line(f"ssh           {file['path']} {state}")
    if session.account_home not in (None, session.home):
        there = ssh_include.ssh_file(session.account_home or session.home)
        output.line(f"ssh           reads {there}, whatever HOME is")
    if me is not None and not me.keys:
        output.line("Next: " + gpu_dev(f"config set {_first_key(session)}"))
    elif blocked := ssh_setup.unreadable(session):
        output.line(f"Next: {blocked.repair}")
    elif me is not None and not files[0]["included"]:
        output.line("Next: " + ssh_include.ENABLE)


def _ssh_file(folder: Path, path: Path, views: Iterable[ReservationView]) -> dict[str, str | bool | None]:
    """Return whether an SSH configuration file includes ours, and whether that is in effect (None without a box to
    try).
    """
    included = ssh_include.is_included(path)
    ssh = next(((view, view.boxes[0].ssh) for view in views if view.boxes and view.boxes[0].ssh), None)
    works = None
    if included and ssh:
        # A name that another cloud or a host of the user's has is not the one by which ssh reaches the box.
        name = ssh_names.ssh_name(ssh_files.config_path(folder, ssh[0].id)) or ssh[0].name
        works = ssh_include.in_effect(path, name, ssh[1].port)
    return {"path": str(path), "included": included, "in_effect": works}


def _first_key(session: Session) -> str:
    """Return the setting that lets the user log in to boxes: the key on this machine, else GitHub's."""
    found = find_public_keys(session.home)
    return f"ssh_key {in_home(session.home, found[0])}" if found else "github_user NAME"


_ADDRESS = re.compile(r"(?i)[a-z][a-z0-9+.-]*://|(www\.)?github\.com/")
_GITHUB_KEYS = re.compile(r"(?i)(?:https?://)?(?:www\.)?github\.com/([a-z0-9-]+?)(?:\.keys)?/?")
"""An address of a GitHub user, or of their keys."""


class _SetCommand(click.Command):
    """Accepts a value that begins with `-`, as some old GitHub logins do."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert `--` before such a value, so that it is not parsed as an option."""
        options = {name for param in self.get_params(ctx) for name in param.opts}
        place = next((i for i, word in enumerate(args[:-1], 1) if not word.startswith("-")), 0)
        if place and args[place].startswith("-") and args[place] not in options and "--" not in args:
            args = [*args[: place - 1], *args[place + 1 :], "--", args[place - 1], args[place]]
        return super().parse_args(ctx, args)


@config.command("set", cls=_SetCommand)
@click.argument("key")
@click.argument("value")
@json_option
@pass_session
def set_(session: Session, key: str, value: str, as_json: bool) -> None:
    """Set github_user, ssh_key (a public key's file) or endpoint."""
    setters: dict[str, Callable[[Session, str], str]] = {
        "github_user": _set_github_user,
        "ssh_key": _set_ssh_key,
        "endpoint": _set_endpoint,
    }
    if key not in setters:
        near = near_match(key, setters)
        meant = f"; did you mean {near}?" if near else f"; there are {', '.join(setters)}"
        raise InvalidRequest(f"no setting {key!r}{meant}", ("for example", gpu_dev("config set github_user NAME")))
    told = setters[key](session, value)
    session.record_done(f"set {key}", ("see it", gpu_dev("config show")))
    if key != "endpoint":
        local_state.sync(session)
    session.output.json({"key": key, "value": value, "message": told}) if as_json else session.output.line(told)


def _set_github_user(session: Session, login: str) -> str:
    me = session.client().set_github_user(login)
    count = sum(key.source is KeySource.GITHUB for key in me.keys)
    return f"{login}: {count} key{'s' if count != 1 else ''}" if login else "no GitHub user any more"


def set_key_file(session: Session, path: Path) -> str:
    """Make the key in this file the user's own; return a sentence about it."""
    keys = read_keys(path)
    read_settings(session.folder)  # settings that are broken are refused before anything is done
    told = set_keys(session, keys)
    try:
        write_setting(session.folder, "ssh_key", str(path))
    except OSError as error:
        session.note_once(f"The key's path cannot be saved: {error.filename}: {error.strerror}")
    return f"{in_home(session.home, path)}: {told}"


def set_keys(session: Session, keys: tuple[str, ...]) -> str:
    """Make these keys the user's own; return their fingerprints, separated by commas."""
    me = session.client().set_own_keys(keys)
    return ", ".join(key.fingerprint for key in me.keys if key.source is KeySource.OWN)


def _set_ssh_key(session: Session, value: str) -> str:
    if not value:
        set_keys(session, ())
        write_setting(session.folder, "ssh_key", "")
        return "no key of your own any more"
    if value.split()[0:1] and value.split()[0] in KINDS:
        # The key itself in place of its file's name: it can only mean this. Where it is kept is not known.
        told = set_keys(session, (parse_public_key(value),))
        write_setting(session.folder, "ssh_key", "")
        return told
    if _ADDRESS.match(value) and not Path(value).exists():
        raise InvalidRequest(f"{cut(value, 300)!r} is an address, and ssh_key is a file", _keys_at(value))
    path = Path(str(session.home) + value[1:]) if value == "~" or value.startswith("~/") else Path(value)
    return set_key_file(session, path.absolute())


def _keys_at(address: str) -> tuple[str, str]:
    """Return the command that sets the keys at this address: GitHub's by the login, others by a file of them."""
    if login := _GITHUB_KEYS.fullmatch(address):
        return "GitHub's keys", gpu_dev(f"config set github_user {shlex.quote(login[1])}")
    file = gpu_dev("config set ssh_key ~/keys.pub")
    return "save them first", f"curl -fsSL {shlex.quote(address)} > ~/keys.pub && " + file


def _set_endpoint(session: Session, value: str) -> str:
    if value:
        from odc.api.client import Client

        before = shlex.quote(read_settings(session.folder).get("endpoint", ""))
        try:
            Client(value).health()
        except ProviderUnavailable as error:
            session.output.note(f"It is kept, but {error.message}.")
            session.output.note("As it was before: " + gpu_dev(f"config set endpoint {before}"))
    write_setting(session.folder, "endpoint", value)
    if session.endpoint_variable:
        session.output.note(f"Not in effect while GPU_DEV_ENDPOINT is set, to {session.endpoint_variable}")
    return f"endpoint: {value}" if value else "the usual endpoint"


@config.group("ssh-include", cls=SubcommandGroup, program=gpu_dev, replacements=INCLUDE_REPLACEMENTS)
def ssh_include_group() -> None:
    """Let ssh, VS Code and Cursor know your reservations by name."""


@ssh_include_group.command()
@click.option("--block", is_flag=True, help="Write the reservations themselves there, for editors without Include.")
@pass_session
def enable(session: Session, block: bool) -> None:
    """Add the Include line to ~/.ssh/config.

    Also to ~/.cursor/ssh_config if Cursor is there.
    """
    for path in ssh_include.files_in_use(session.home):
        done = ssh_include.enable(path, block)
        session.output.line(f"{path}: {'includes your reservations now' if done else 'included them already'}")
    ready = [view for view in local_state.sync(session) if view.state is Status.ACTIVE]
    if session.account_home not in (None, session.home):
        there = ssh_include.ssh_file(session.account_home or session.home)
        line = ssh_include.LINE.replace("~/.gpu-dev", str(session.folder))
        session.output.note(f"ssh reads {there}: it ignores HOME. At the top of that file: {line}")
    session.output.line(_next_step(session, ready))


def _next_step(session: Session, ready: Sequence[ReservationView]) -> str:
    if not ready:
        return "Next: " + gpu_dev("reserve")
    name = ssh_setup.ssh_name(session, ready[0])
    return f"Next: ssh {name}" if name else "Next: " + gpu_dev(f"connect {ready[0].name}")


@ssh_include_group.command()
@pass_session
def disable(session: Session) -> None:
    """Take the Include line or block away again; nothing else changes."""
    for path in ssh_include.files_in_use(session.home):
        done = ssh_include.disable(path)
        told = "does not include your reservations any more" if done else "had no such line"
        if ssh_include.is_included(path):
            told = f"has a line of your own that includes them: {ssh_include.LINE}"
        session.output.line(f"{path}: {told}")
