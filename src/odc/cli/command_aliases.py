"""Command names of other tools, and the commands that do the same here. Tables only."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from odc.domain.commands import gpu_dev, odc

ALIASES = {"ls": "list", "ssh": "connect"}
"""Word to the command of `gpu-dev` that it runs: harmless, and the same thing."""

REPLACEMENTS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("ps", "get", "jobs", "queue", "squeue"), ("your reservations", gpu_dev("list"))),
    **dict.fromkeys(("describe", "info", "inspect"), ("everything about one", gpu_dev("show NAME"))),
    **dict.fromkeys(
        ("rm", "del", "delete", "stop", "end", "kill", "release", "terminate", "scancel", "down"),
        ("end one", gpu_dev("cancel NAME")),
    ),
    **dict.fromkeys(
        ("create", "new", "run", "start", "request", "launch", "up", "alloc", "salloc", "srun"),
        ("reserve GPUs", gpu_dev("reserve")),
    ),
    **dict.fromkeys(("exec", "shell", "attach", "enter", "sh"), ("a shell in the box", gpu_dev("connect NAME"))),
    **dict.fromkeys(("logs", "log", "events", "history"), ("what happened to it", gpu_dev("show NAME --history"))),
    **dict.fromkeys(("login", "auth"), ("set your keys; there is no login", gpu_dev("config set github_user NAME"))),
    **dict.fromkeys(
        ("whoami", "me", "keys", "key", "settings"), ("who you are, and your keys", gpu_dev("config show"))
    ),
    **dict.fromkeys(
        ("extend", "renew", "prolong"),
        ("a reservation's end is fixed; have the same again", gpu_dev("reserve --like NAME")),
    ),
    **dict.fromkeys(("nodes", "top", "sinfo", "cluster"), ("all types and nodes", gpu_dev("status"))),
    **dict.fromkeys(("free", "available", "types", "gpus"), ("what is free", gpu_dev("avail"))),
    **dict.fromkeys(
        ("cp", "scp", "rsync", "sync"), ("let scp and rsync know it", gpu_dev("config ssh-include enable"))
    ),
    **dict.fromkeys(
        ("disk", "disks", "volume", "volumes"),
        ("a disk is made, and used again, by its name", gpu_dev("reserve --disk NAME")),
    ),
    **dict.fromkeys(("snapshot", "snapshots"), ("a disk's last snapshot is shown by", gpu_dev("show NAME"))),
    "watch": ("a list that is refreshed", gpu_dev("list --watch")),
}
"""Word to its replacement in `gpu-dev`: a description and the command."""

_DISKS = ("disk", "disks", "volume", "volumes")
PAIR_REPLACEMENTS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        (f"{disk} {verb}" for disk in _DISKS for verb in ("ls", "list", "show", "get")),
        ("the question about the disk lists them", gpu_dev("reserve")),
    ),
    **dict.fromkeys(
        (f"{disk} {verb}" for disk in _DISKS for verb in ("rm", "del", "delete", "remove")),
        ("a disk is kept; delete its files in a box with it", gpu_dev("reserve --disk NAME")),
    ),
    **dict.fromkeys(("key add", "keys add"), ("set a public key's file", gpu_dev("config set ssh_key FILE"))),
    **dict.fromkeys(("key rm", "keys rm"), ("an empty value forgets it", gpu_dev("config set ssh_key ''"))),
}
"""Two words to their replacement in `gpu-dev`, where the second one matters: a description and the command."""

CONFIG_REPLACEMENTS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("list", "ls", "get", "view", "cat"), ("who you are, your keys and files", gpu_dev("config show"))),
    **dict.fromkeys(
        ("unset", "rm", "remove", "delete", "clear"), ("an empty value forgets it", gpu_dev("config set SETTING ''"))
    ),
}
"""Word to its replacement in `gpu-dev config`: a description and the command."""

INCLUDE_REPLACEMENTS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("on", "add", "install", "set", "write"), ("let ssh know them", gpu_dev("config ssh-include enable"))
    ),
    **dict.fromkeys(
        ("off", "rm", "remove", "delete", "uninstall"), ("take the line away", gpu_dev("config ssh-include disable"))
    ),
    **dict.fromkeys(("status", "show", "list", "ls"), ("what includes them", gpu_dev("config show"))),
}
"""Word to its replacement in `gpu-dev config ssh-include`: a description and the command."""

DISK_REPLACEMENTS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("ls", "show", "get", "usage", "du", "df", "status", "top"), ("who takes what of the storage", odc("disk list"))
    ),
    **dict.fromkeys(
        ("rm", "del", "delete", "remove", "clean", "clear", "gc", "trim"),
        ("disks are kept; this deletes older snapshots", odc("disk prune --dry-run")),
    ),
    **dict.fromkeys(
        ("restore", "undelete", "adopt", "import", "repair"),
        ("one that has files but no record", odc("disk recover NAME")),
    ),
    **dict.fromkeys(("mv", "move", "chown", "give"), ("with all that its user has", odc("user move USER LOGIN"))),
    **dict.fromkeys(
        ("create", "add", "new", "make"), ("users make their own, by its name", gpu_dev("reserve --disk NAME"))
    ),
}
"""Word to its replacement in `odc disk`: a description and the command."""

USER_REPLACEMENTS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("ls", "show", "get", "status"), ("who is recorded", odc("user list"))),
    **dict.fromkeys(
        ("rm", "del", "delete", "remove", "drop"), ("remove the record; disks are kept", odc("user forget USER"))
    ),
    **dict.fromkeys(
        ("mv", "rename", "merge", "transfer"), ("give what is recorded to another login", odc("user move USER LOGIN"))
    ),
    **dict.fromkeys(
        ("add", "create", "new", "invite"), ("every login of the machine may reserve", "sudo useradd -m LOGIN")
    ),
}
"""Word to its replacement in `odc user`: a description and the command."""

CLOCK_REPLACEMENTS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("show", "status", "check", "get"), ("what is wrong with it", odc("doctor"))),
    **dict.fromkeys(("ok", "confirm", "set", "fix", "sync", "trust"), ("it is right", odc("clock accept"))),
}
"""Word to its replacement in `odc clock`: a description and the command."""

IMAGE_REPLACEMENTS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("ls", "list", "show", "status", "inspect"), ("whether it is current", odc("doctor"))),
    **dict.fromkeys(("make", "create", "pull", "update", "upgrade"), ("make it", odc("image build"))),
    "rebuild": ("make it again", odc("image build --fresh")),
}
"""Word to its replacement in `odc image`: a description and the command."""

OPERATOR_REPLACEMENTS: dict[str, tuple[str, str]] = {
    "start": ("start the cloud", odc("up")),
    "stop": ("stop the daemon; boxes go on", odc("down")),
    "restart": ("with new settings; boxes go on", odc("down") + " && " + odc("up")),
    "reload": ("with new settings; boxes go on", odc("down") + " && " + odc("up")),
    "status": ("all types and nodes", gpu_dev("status")),
    **dict.fromkeys(("logs", "log"), ("the log is odc.log in the state folder; what is wrong", odc("doctor"))),
    **dict.fromkeys(("users", "who"), ("who is recorded", odc("user list"))),
    **dict.fromkeys(("disks", "storage", "prune"), ("who takes what of the storage", odc("disk list"))),
    "check": ("check the machine", odc("doctor")),
    **dict.fromkeys(("list", "ls", "ps"), ("every reservation", gpu_dev("list --user all"))),
    **dict.fromkeys(("build", "images"), ("make the image of boxes", odc("image build"))),
    **dict.fromkeys(("config", "settings"), ("check the settings", odc("doctor"))),
}
"""Word to its replacement in `odc`: a description and the command."""


def suggested_commands(
    word: str, table: Mapping[str, tuple[str, str]], known: Collection[str]
) -> list[tuple[str, str]]:
    """Return the hints for a command that does not exist: the commands that do the same, or those with a similar name.

    Args:
        word: the command as typed.
        table: words of other tools.
        known: the existing commands.
    """
    if word.lower() in table:
        return [table[word.lower()]]
    from odc.domain.names import near_match

    near = near_match(word.lower(), [*known, *table])
    if near is None:
        return []
    return [table[near]] if near in table else [("did you mean", near)]


def similar_options(typed: str, known: Iterable[str]) -> list[str]:
    """Return the options that were probably meant by an unknown one: those with this prefix, else the most similar."""
    options = sorted(known)
    begun = [option for option in options if typed.startswith("--") and option.startswith(typed)]
    if begun:
        return begun
    from odc.domain.names import near_match

    near = near_match(typed, options)
    return [near] if near else []
