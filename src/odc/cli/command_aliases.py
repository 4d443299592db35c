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

CONFIG_REPLACEMENTS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("list", "ls", "get", "view", "cat"), ("who you are, your keys and files", gpu_dev("config show"))),
    **dict.fromkeys(
        ("unset", "rm", "remove", "delete", "clear"), ("an empty value forgets it", gpu_dev("config set SETTING ''"))
    ),
}
"""Word to its replacement in `gpu-dev config`: a description and the command."""

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
