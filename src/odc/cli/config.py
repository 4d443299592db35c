"""`gpu-dev config`: who you are to the cloud, your keys, and your SSH configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from odc.api.messages import Me
from odc.cli import include, references, screens
from odc.cli.context import Session
from odc.cli.local_keys import in_home, read_key
from odc.cli.options import json_option, pass_session
from odc.cli.settings_file import FILE, write_setting
from odc.domain.errors import InvalidRequest, ProviderUnavailable
from odc.domain.names import near_match
from odc.domain.requests import SetGithubUser, SetOwnKeys


@click.group()
def config() -> None:
    """Show and set your keys and files."""


@config.command()
@json_option
@pass_session
def show(session: Session, as_json: bool) -> None:
    """Show who the cloud takes you for, your keys, and your files."""
    me = session.client().me()
    views = references.live_views(session)
    if as_json:
        session.output.json(me)
        return
    session.output.lines(screens.me_lines(me))
    session.output.line(f"endpoint      {session.endpoint}")
    session.output.line(f"settings      {session.folder / FILE}")
    reachable = next((view for view in views if view.boxes and view.boxes[0].ssh), None)
    for path in include.config_files(session.home):
        state = "includes your reservations" if include.is_included(path) else "does not include your reservations"
        if include.is_included(path) and reachable and reachable.boxes[0].ssh:
            works = include.in_effect(path, reachable.name, reachable.boxes[0].ssh.port)
            state += "" if works else ", but something in it stands in the way"
        session.output.line(f"ssh           {path} {state}")
    if not include.is_included(include.config_files(session.home)[0]):
        session.output.line("Next: gpu-dev config ssh-include enable")


@config.command("set")
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
        raise InvalidRequest(f"no setting {key!r}{meant}", ("for example", "gpu-dev config set github_user NAME"))
    told = setters[key](session, value)
    session.output.json({"key": key, "value": value, "message": told}) if as_json else session.output.line(told)


def _me(answer: object) -> Me:
    if not isinstance(answer, Me):
        raise ProviderUnavailable("the cloud's answer is not understood")
    return answer


def _set_github_user(session: Session, login: str) -> str:
    me = _me(session.client().send(SetGithubUser(login=login)))
    count = sum(key.source == "GitHub" for key in me.keys)
    return f"{login}: {count} key{'s' if count != 1 else ''}" if login else "no GitHub user any more"


def set_key_file(session: Session, path: Path) -> str:
    """Make the key in this file the user's own; what was done, as a sentence."""
    me = _me(session.client().send(SetOwnKeys(keys=(read_key(path),))))
    own = next(key for key in me.keys if key.source == "own")
    return f"{in_home(session.home, path)}: {own.fingerprint}"


def _set_ssh_key(session: Session, value: str) -> str:
    path = Path(str(session.home) + value[1:]) if value == "~" or value.startswith("~/") else Path(value)
    return set_key_file(session, path.absolute())


def _set_endpoint(session: Session, value: str) -> str:
    if value:
        from odc.api.client import socket_path

        socket_path(value)
    write_setting(session.folder, "endpoint", value)
    return f"endpoint: {value}" if value else "the usual endpoint"


@config.group("ssh-include")
def ssh_include() -> None:
    """Let ssh, VS Code and Cursor know your reservations by name."""


@ssh_include.command()
@pass_session
def enable(session: Session) -> None:
    """Put the Include line at the top of ~/.ssh/config and ~/.cursor/ssh_config."""
    for path in include.config_files(session.home):
        done = include.enable(path)
        session.output.line(f"{path}: {'includes your reservations now' if done else 'included them already'}")
    references.live_views(session)
    session.output.line("Next: ssh NAME")


@ssh_include.command()
@pass_session
def disable(session: Session) -> None:
    """Take the Include line away again; nothing else changes."""
    for path in include.config_files(session.home):
        done = include.disable(path)
        told = "does not include your reservations any more" if done else "had no such line"
        if include.is_included(path):
            told = f"has a line of your own that includes them: {include.LINE}"
        session.output.line(f"{path}: {told}")
