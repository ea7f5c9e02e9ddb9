"""docs/cli.md documents every command and every option, and nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from kitaru.cli.commands import Group, common_options
from kitaru.cli.root import kitaru

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "cli.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## `(kitaru [a-z ]+)`\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
COMMON = {name for option in common_options() for name in option.opts} | {"--help"}


def commands(group: Group, path: str) -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        where = f"{path} {name}"
        found |= commands(command, where) if isinstance(command, Group) else {where: command}
    return found


COMMANDS = commands(kitaru, "kitaru")


def options_of(command: click.Command) -> set[str]:
    names = {
        name for each in command.params if isinstance(each, click.Option) for name in each.opts
    }
    return names - COMMON


def test_every_command_has_its_section_and_every_section_its_command() -> None:
    assert set(SECTIONS) == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_of_a_command_has_its_line_and_no_other_has_one(name: str) -> None:
    rows = re.findall(r"^\| `(--?[a-z-]+)` \|", SECTIONS[name], re.M)
    assert set(rows) == options_of(COMMANDS[name])


def test_what_all_commands_take_is_said_once() -> None:
    for name in COMMON | {"--version"}:
        assert f"`{name}`" in PAGE or f"kitaru {name}" in PAGE


def test_every_status_is_named() -> None:
    (status,) = [p for p in COMMANDS["kitaru executions list"].params if p.name == "status"]
    assert isinstance(status.type, click.Choice)
    for name in status.type.choices:
        assert f"`{name}`" in SECTIONS["kitaru executions list"]
