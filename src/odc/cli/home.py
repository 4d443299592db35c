"""The home folder that `gpu-dev` reads and writes: never one of somebody else.

`sudo` keeps HOME on some distributions. Root would then follow the links that a user has put there, and leave files
that the user cannot change. So a folder of another user is not used: the home of the account is, as ssh does in any
case.
"""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from pathlib import Path
from typing import NamedTuple

GPU_DEV_FOLDER = ".gpu-dev"
_WRITTEN_FOLDERS = (GPU_DEV_FOLDER, ".ssh", ".cursor")
"""The folders of a home in which `gpu-dev` writes."""


class Home(NamedTuple):
    """A home folder, and a note to the user about the choice; empty for no note."""

    folder: Path
    note: str = ""


def choose_home(named: str) -> Home:
    """Return the home of this process's user.

    Args:
        named: HOME, as the environment has it; empty if it is not set.
    """
    account = _account_home()
    if not named:
        return _own(account or Path("/"))
    try:
        folder = Path(named).absolute()
    except OSError:
        fallback = account or Path("/")
        return Home(fallback, f"HOME is {named}, in a folder that does not exist any more; {fallback} is used instead.")
    if account is None or _is_same(folder, account):
        return _own(folder)
    owner = _others(folder)
    if owner:
        return Home(account, f"HOME is {folder}, of {owner}; for {_login(os.geteuid())}, {account} is used.")
    return _own(folder)


def home_of_account(folder: Path) -> Path | None:
    """Return the home that ssh uses, which ignores HOME; None if this uid has no account.

    Args:
        folder: the chosen home; returned if it is the same folder by another path.
    """
    account = _account_home()
    return folder if account is not None and _is_same(folder, account) else account


def _own(folder: Path) -> Home:
    """Return the folder, with a note if files that `gpu-dev` needs in it belong to another user, as after an earlier
    `sudo gpu-dev`.
    """
    ours = folder / GPU_DEV_FOLDER
    owner = _other_owner(ours)
    if not owner or not ours.is_dir():
        return Home(folder)
    if os.geteuid() == 0:
        return Home(folder, f"{ours} is a folder of {owner}, and this is root.")
    mend = f"sudo chown -hR {shlex.quote(_login(os.geteuid()))} {shlex.quote(str(ours))}"
    return Home(folder, f"{ours} is a folder of {owner}, so nothing can be kept in it. Take it back: {mend}")


def _others(home: Path) -> str:
    """Return which other users can change a home, or a folder in it that is written; empty if none can."""
    try:
        if home.is_dir() and home.stat().st_mode & stat.S_IWOTH:
            return "everybody"
    except OSError:
        return ""
    found = (_other_owner(path) for path in (home, *(home / name for name in _WRITTEN_FOLDERS)))
    return next((owner for owner in found if owner), "")


def _other_owner(path: Path) -> str:
    """Return the login that owns a folder or a link to one; empty if it is our own, or is not a folder."""
    try:
        if not path.is_dir():
            return ""
        others = {path.lstat().st_uid, path.stat().st_uid} - {os.geteuid()}
    except OSError:
        return ""
    return _login(min(others)) if others else ""


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one == other or one.samefile(other)
    except OSError:
        return False


def _login(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _account_home() -> Path | None:
    """Return the home of the account; None if this uid has no account."""
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return None
