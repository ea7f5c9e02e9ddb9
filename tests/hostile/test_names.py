"""Every name of the list, as the name of everything that has one: stored, shown, found; or refused.

A name that is taken is data: no file bears it, no pattern and no SQL is made of it, and
no terminal obeys it.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import (
    KitaruClient,
    KitaruExecutionError,
    KitaruStateError,
    KitaruUsageError,
    checkpoint,
    flow,
)
from kitaru.cli.entry import perform

from .doors import PATIENCE_SECONDS
from .options import item, plain

pytestmark = [pytest.mark.usefixtures("shared_store"), pytest.mark.timeout(600)]

TAKEN: dict[str, str] = {
    "..": "..",
    "../../x": "../../x",
    "an absolute path": "/etc/passwd",
    "C:\\x": "C:\\x",
    "NUL": "NUL",
    "a/b": "a/b",
    "percent-encoded dots": "%2e%2e",
    "SQL": "'; DROP TABLE executions; --",
    "double quotes": '"; DROP TABLE executions; --',
    "percent": "%",
    "underscore": "_",
    "star": "*",
    "brackets": "[bold red]x[/]",
    "glob": "[a-z]?",
    "tag": "<script>alert(1)</script>",
    "formula": "=cmd()",
    "dash": "-rf",
    "two dashes": "--help",
    "homoglyph": "аdmin",
    "emoji": "🦀👩‍👩‍👧‍👦",
    "accents, decomposed": "cafe\u0301",
    "Hangul, decomposed": "\u1112\u1161\u11ab",
    "template": "{0.__class__}%s$HOME`id`",
    "JSON": '{"$kitaru":"tuple"}',
    "None": "None",
    "number": "1e9",
    "200 characters": "x" * 200,
    "200 wide characters": "漢" * 200,
    "a zero-width space": "a\u200bb",
    "blanks around": " x ",
}

REFUSED: dict[str, str] = {
    "empty": "",
    "blank": "  \t ",
    "no-break spaces": "\u00a0\u2003",
    "201 characters": "x" * 201,
    "10,000 long": "x" * 10_000,
    "64 MiB": "x" * (64 * 2**20),
    "newline": "a\nb",
    "carriage return": "a\rb",
    "tab": "a\tb",
    "NUL character": "a\0b",
    "ANSI escapes": "\x1b[31mred",
    "C1 escape": "\x9b31m",
    "delete": "a\x7f",
    "line separator": "a\u2028b",
    "right-to-left override": "a\u202eb",
    "isolate": "a\u2066b",
    "lone surrogate": "\ud800",
}


def _flow_named(name: str) -> Any:
    @flow(name=name)
    def named() -> int:
        return 1

    return named


def _calls(name: str, **options: Any) -> Any:
    """A flow that calls a checkpoint with this name, or with this id."""

    @checkpoint(cache=False, **({} if options else {"name": name}))
    def called() -> str:
        return kitaru.current().checkpoint or ""

    @flow
    def calls() -> str:
        return called.options(**options)() if options else called()

    return calls


def _asks(name: str) -> Any:
    @flow
    def asks() -> bool:
        return kitaru.now(name) <= kitaru.now(name) and kitaru.random(name) < 1

    return asks


SAY: dict[str, Callable[[str], Any]] = {
    "flow": lambda name: _flow_named(name).run(),
    "checkpoint": lambda name: _calls(name).run(),
    "id": lambda name: _calls(name, id=name).run(),
    "key": lambda name: plain.options(key=name).run(),
    "tag": lambda name: plain.options(tags=[name]).run(),
    "now": lambda name: _asks(name).run(),
    "type": lambda name: checkpoint(type=name)(_calls),
    "version": lambda name: checkpoint(version=name)(_calls),
    "alias": lambda name: checkpoint(aliases=[name])(_calls),
}


def strange_files(store: Path) -> set[str]:
    """All files near the store but those that every execution may make."""
    found = {os.path.join(where, one) for where, _, files in os.walk(store.parent) for one in files}
    return {file for file in found if "/blobs/" not in file and "/owners/" not in file}


@pytest.mark.parametrize("name", TAKEN)
def test_a_name_that_can_be_shown_is_only_a_name(
    name: str, shared_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = TAKEN[name]
    spelt = unicodedata.normalize("NFC", text)
    executions = KitaruClient().executions
    before = strange_files(shared_store)

    for kind in ("now", "type", "version", "alias", "id"):
        handle = SAY[kind](text)
        if kind in ("now", "id"):
            handle.wait(timeout=PATIENCE_SECONDS)
    named = SAY["flow"](text)
    assert named.wait(timeout=PATIENCE_SECONDS) == 1
    called = SAY["checkpoint"](text)
    assert called.wait(timeout=PATIENCE_SECONDS) == spelt
    tagged, keyed = SAY["tag"](text), SAY["key"](text)
    again = plain.options(key=spelt).run()

    assert executions.get(named.exec_id).flow_name == spelt
    assert [one.exec_id for one in executions.list(flow=spelt)] == [named.exec_id]
    assert executions.list_checkpoints(called.exec_id)[0].name == spelt
    assert [one.name for one in executions.why(called.exec_id, spelt)] == [spelt]
    assert (tagged.wait(timeout=PATIENCE_SECONDS), keyed.wait(timeout=PATIENCE_SECONDS)) == (1, 1)
    assert executions.get(tagged.exec_id).tags == (spelt,)
    assert executions.get(keyed.exec_id).key == spelt
    assert again.exec_id == keyed.exec_id
    assert strange_files(shared_store) == before

    for words in (
        ["executions", "list", "--flow", spelt],
        ["executions", "get", keyed.exec_id],
        ["executions", "why", called.exec_id, "--", spelt],
    ):
        assert perform(words) == 0
        shown = capsys.readouterr().out
        assert "".join(filter(str.isprintable, spelt[:12])).strip() in shown.replace(
            "\\u200d", ""
        ).replace("\\u200b", ""), words
        assert "\x1b" not in shown


@pytest.mark.parametrize("kind", SAY)
@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_cannot_be_shown_is_refused(name: str, kind: str) -> None:
    before = [one.exec_id for one in KitaruClient().executions.list(limit=1)]
    try:
        handle = SAY[kind](REFUSED[name])
    except KitaruUsageError as error:
        assert [one.exec_id for one in KitaruClient().executions.list(limit=1)] == before
        refused: BaseException | None = error
    else:
        assert kind in ("id", "now", "checkpoint"), "those are said inside a flow"
        with pytest.raises(KitaruExecutionError) as caught:
            handle.wait(timeout=PATIENCE_SECONDS)
        refused = caught.value.__cause__
    assert isinstance(refused, KitaruUsageError)
    message = str(refused)
    assert len(message) < 300
    assert message.isprintable(), "the message shows the name, and no terminal obeys it"


def test_names_that_differ_by_case_only_are_two_and_by_spelling_only_are_one() -> None:
    lower, upper = plain.options(key="order-A").run(), plain.options(key="order-a").run()
    assert lower.exec_id != upper.exec_id
    one, other = plain.options(key="Caf\u00e9").run(), plain.options(key="Cafe\u0301").run()
    assert one.exec_id == other.exec_id
    latin, cyrillic = plain.options(key="admin").run(), plain.options(key="\u0430dmin").run()
    assert latin.exec_id != cyrillic.exec_id
    for handle in (lower, upper, one, latin, cyrillic):
        handle.wait(timeout=PATIENCE_SECONDS)


def test_a_pattern_finds_nothing_but_itself() -> None:
    handle = plain.options(key="a plain key", tags=["a plain tag"]).run()
    handle.wait(timeout=PATIENCE_SECONDS)
    executions = KitaruClient().executions
    for pattern in ("%", "_", "*", "a plain%", "a_plain_key", "'--", "%plain%"):
        assert handle.exec_id not in [one.exec_id for one in executions.list(flow=pattern)]
        assert handle.exec_id not in [one.exec_id for one in executions.list(key=pattern)]
        assert handle.exec_id not in [one.exec_id for one in executions.list(tags=[pattern])]
        with pytest.raises((kitaru.KitaruNotFoundError, KitaruStateError)):
            executions.get(pattern)


def test_two_functions_of_one_name_are_refused_at_the_second() -> None:
    @checkpoint(name="the one name")
    def first() -> int:
        return 1

    with pytest.raises(KitaruUsageError, match="the one name"):

        @checkpoint(name="the one name")
        def second() -> int:
            return 2


@pytest.mark.parametrize("decorate", [flow, checkpoint])
@pytest.mark.parametrize("attribute", ["__name__", "__qualname__"])
@pytest.mark.parametrize("name", ["\x1b[31m", "x" * 10_000, "a\nb"])
def test_a_function_whose_own_name_cannot_be_shown_is_refused(
    decorate: Any, attribute: str, name: str
) -> None:
    def function() -> None: ...

    setattr(function, attribute, name)
    with pytest.raises(KitaruUsageError, match="function name"):
        decorate(function)


@flow
def uses_one_id_twice() -> None:
    item.options(id="same")(1)
    item.options(id="same")(2)


def test_one_id_names_one_call() -> None:
    with pytest.raises(KitaruExecutionError) as caught:
        uses_one_id_twice.run().wait(timeout=PATIENCE_SECONDS)
    assert isinstance(caught.value.__cause__, KitaruUsageError)
    assert "'same'" in str(caught.value.__cause__)
