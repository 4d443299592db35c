"""The words of other tools that are known, and what they lead to."""

from __future__ import annotations

import click

from odc.cli import command_aliases
from odc.cli.main import COMMANDS
from odc.operator.commands import group


def test_no_word_of_another_tool_hides_a_command() -> None:
    assert not set(command_aliases.REPLACEMENTS) & set(COMMANDS)
    assert not set(command_aliases.ALIASES) & (set(COMMANDS) | set(command_aliases.REPLACEMENTS))
    assert not set(command_aliases.OPERATOR_REPLACEMENTS) & set(group.commands)


def test_every_word_leads_to_a_command_that_exists() -> None:
    named = {
        command
        for _, command in (*command_aliases.REPLACEMENTS.values(), *command_aliases.OPERATOR_REPLACEMENTS.values())
    }
    for command in named:
        program, word = command.split()[:2]
        assert word in (COMMANDS if program == "gpu-dev" else group.commands), command
    assert set(command_aliases.ALIASES.values()) <= set(COMMANDS)


def test_every_word_of_a_group_leads_to_a_command_that_exists() -> None:
    groups = {
        "disk": command_aliases.DISK_REPLACEMENTS,
        "user": command_aliases.USER_REPLACEMENTS,
        "clock": command_aliases.CLOCK_REPLACEMENTS,
        "image": command_aliases.IMAGE_REPLACEMENTS,
    }
    for name, table in groups.items():
        of_group = group.commands[name]
        assert isinstance(of_group, click.Group)
        assert not set(table) & set(of_group.commands)
        for _, command in table.values():
            program, *words = command.split()
            if program == "odc":
                inner = group.commands[words[0]]
                assert not isinstance(inner, click.Group) or words[1] in inner.commands, command
    pairs = command_aliases.PAIR_REPLACEMENTS
    assert not {pair.split()[0] for pair in pairs} & set(COMMANDS)
    assert {command.split()[1] for _, command in pairs.values()} <= set(COMMANDS)


def test_options_that_begin_so_come_before_those_that_are_near() -> None:
    known = ("--gpus", "--gpu-type", "--hours", "--json")
    assert command_aliases.similar_options("--gpu", known) == ["--gpu-type", "--gpus"]
    assert command_aliases.similar_options("--hour", known) == ["--hours"]
    assert command_aliases.similar_options("--jsno", known) == ["--json"]
    assert command_aliases.similar_options("--colour", known) == []
