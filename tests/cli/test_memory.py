"""`kitaru memory`: what it prints, refuses and asks; and what `executions get` shows as saved."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .programs import Project

TEAM = ("--scope", "team")

SAVING = """
import kitaru
from kitaru import checkpoint, flow

@checkpoint
def draft(topic: str) -> str:
    kitaru.save("prompt", "about " + topic, type="prompt")
    return topic

@flow
def write(topic: str) -> str:
    kitaru.memory.set("last", topic)
    return draft(topic)
"""


@pytest.fixture
def shop(project: Project) -> Project:
    (project.folder / "saving.py").write_text(SAVING)
    assert project.run("run", "saving.py:write", "--", "--topic", "rivers").returncode == 0
    return project


def write(project: Project, key: str, value: str) -> None:
    done = project.run("memory", "set", key, value, *TEAM)
    assert done.returncode == 0, done.stderr


def value_of(project: Project, key: str, *more: str) -> Any:
    return project.ask("memory", "get", key, *TEAM, *more)["item"]["value"]


def test_what_is_set_is_printed_again(shop: Project) -> None:
    for text, value in (("formal", "formal"), ("3", 3), ('{"a": [1]}', {"a": [1]}), ("null", None)):
        write(shop, "x", text)
        assert value_of(shop, "x") == value
    assert value_of(shop, "x", "--version", "1") == "formal"
    assert shop.run("memory", "get", "x", *TEAM, "--version", "1").stdout == "formal\n"
    assert shop.run("memory", "get", "x", *TEAM, "--version", "3").stdout == '{"a": [1]}\n'


def test_what_begins_like_json_has_to_be_json(shop: Project) -> None:
    for text in ('{"a": 1', "[1,", '"a'):
        refused = shop.run("memory", "set", "x", text, *TEAM)
        assert refused.returncode == 2
        assert "begins like JSON" in refused.stderr
    assert shop.run("memory", "get", "x", *TEAM).returncode == 1


def test_keys_and_versions_are_listed_in_columns_with_tabs(shop: Project) -> None:
    write(shop, "tone", "formal")
    write(shop, "tone", "friendly")
    assert shop.run("memory", "delete", "tone", *TEAM).stdout == (
        "tone of namespace team is deleted, by version 3\n"
    )
    shown = shop.run("memory", "history", "tone", *TEAM).stdout
    head, *rows = [line.split("	") for line in shown.splitlines()]
    assert head == ["key", "version", "written", "by", "value"]
    assert [(row[0], row[1], row[4]) for row in rows] == [
        ("tone", "3", "deleted"),
        ("tone", "2", '"friendly"'),
        ("tone", "1", '"formal"'),
    ]
    listed = shop.run("memory", "list", *TEAM)
    assert (listed.returncode, listed.stdout) == (0, "")
    assert "nothing is remembered" in listed.stderr


def test_what_a_flow_wrote_is_found_by_its_name(shop: Project) -> None:
    (entry,) = shop.ask("memory", "list", "--scope", "write", "--scope-type", "flow")["items"]
    assert (entry["key"], entry["version"], entry["value"]) == ("last", 1, "rivers")
    execution = shop.ask("executions", "list")["items"][0]
    assert entry["exec_id"] == execution["exec_id"]
    scopes = shop.ask("memory", "scopes")["items"]
    assert scopes == [{"scope_type": "flow", "scope": execution["flow_id"]}]


def test_purging_is_for_ever_so_somebody_has_to_say_yes(shop: Project) -> None:
    write(shop, "x", "1")
    write(shop, "x", "2")
    refused = shop.run("memory", "purge", "x", *TEAM)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert value_of(shop, "x") == 2
    done = shop.run("memory", "purge", "x", *TEAM, "--yes")
    assert (done.returncode, done.stdout) == (0, "removed 2 versions of 'x'\n")
    write(shop, "y", "1")
    done = shop.run("memory", "purge", "--all", *TEAM, "--yes", "-o", "json")
    assert json.loads(done.stdout) == {
        "command": "memory.purge",
        "item": {"scope_type": "namespace", "scope": "team", "key": None, "versions": 1},
    }


REFUSED = [
    (("get", "nothing", *TEAM), 1, "no 'nothing' in the memory of namespace 'team'"),
    (("delete", "nothing", *TEAM), 1, "no 'nothing'"),
    (("get", "a b", *TEAM), 2, "memory key"),
    (("get", "x"), 2, "--scope"),
    (("purge", *TEAM), 2, "--all"),
    (("purge", "x", "--all", *TEAM), 2, "--all"),
    (("list", *TEAM, "--scope-type", "flw"), 2, "Did you mean 'flow'"),
    (("list", *TEAM, "--limit", "0"), 2, "limit"),
    (("lst",), 2, "did you mean 'list'"),
]


def test_what_cannot_be_is_refused(shop: Project) -> None:
    for words, status, says in REFUSED:
        done = shop.run("memory", *words)
        assert (done.returncode, says in done.stderr) == (status, True), (words, done.stderr)


def test_an_execution_shows_what_its_calls_saved(shop: Project) -> None:
    exec_id = shop.ask("executions", "list")["items"][0]["exec_id"]
    assert "saved prompt" in shop.run("executions", "get", exec_id).stdout
    (call,) = shop.ask("executions", "get", exec_id)["item"]["checkpoints"]
    assert [(each["kind"], each["name"]) for each in call["artifacts"]] == [
        ("saved", "prompt"),
        ("result", "draft"),
    ]
