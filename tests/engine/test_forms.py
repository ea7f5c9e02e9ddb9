"""A schema as questions: what is asked, what is made of the lines, what is asked again."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterable
from typing import Any, Literal

import pydantic
import pytest

from kitaru._core.json_schema import Problem
from kitaru._engine import forms, schemas


class Tone(enum.Enum):
    DRY = "dry"
    WARM = "warm"


class Line(pydantic.BaseModel):
    what: str = pydantic.Field(min_length=1)
    count: int = 1


class Review(pydantic.BaseModel):
    approved: bool
    score: int = pydantic.Field(default=3, ge=1, le=5, description="how good it is")
    tone: Tone = Tone.DRY
    note: str | None = None
    tags: list[str] = []
    lines: list[Line] = []


@dataclasses.dataclass
class Options:
    words: list[str] = dataclasses.field(default_factory=list)
    depth: int = dataclasses.field(default_factory=lambda: 3)
    line: Line | None = None


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


def played(asked: Any, lines: Iterable[str], check: Any = None) -> tuple[Any, str]:
    """(the answer, all that stood on the screen) of a form that is given these lines."""
    schema = schemas.schema_of(asked)
    parsed = None if schema is None else json.loads(schema)
    form = forms.fill(parsed, check or (lambda data: schemas.find_misfits(data, schema, asked)))
    left = list(lines)
    screen = ""
    try:
        what = next(form)
        while True:
            if isinstance(what, forms.Say):
                screen += ("! " if what.is_problem else "") + what.text + "\n"
                what = next(form)
            else:
                line = left.pop(0)
                screen += f"{what.prompt}{line}\n"
                what = form.send(line)
    except StopIteration as end:
        assert not left, f"not asked for: {left}"
        return end.value, screen


@pytest.mark.parametrize(
    ("asked", "lines", "answer"),
    [
        (bool, ["y"], True),
        (bool, ["maybe", "", "No"], False),
        (str, [""], ""),
        (str, ["5"], "5"),
        (str, [" two words "], " two words "),
        (int, ["five", "5"], 5),
        (float, ["1"], 1),
        (Literal["approve", "reject"], ["2"], "reject"),
        (Literal["approve", "reject"], ["Approve"], "approve"),
        (Literal["approve", "reject"], ["3", "", "reject"], "reject"),
        (Literal["only"], [], "only"),
        (Literal["a", 1, None], ["1"], 1),
        (Literal["a", 1, None], ["null"], None),
        (Tone, ["warm"], "warm"),
        (str | None, [""], None),
        (int | None, ["7"], 7),
        (int | str, ["seven"], "seven"),
        (list[int], ["1", "x", "2", ""], [1, 2]),
        (list[int], [""], []),
        (dict[str, int], ['{"a": 1, "a": 2}', '{"a": 1}'], {"a": 1}),
        (tuple[int, str], ['[1, "a"]'], [1, "a"]),
        (Any, ["[1, null]"], [1, None]),
        (Any, ["plain words"], "plain words"),
        (Line | None, ["n"], None),
        (Line | None, ["y", "bread", ""], {"what": "bread", "count": 1}),
        (Cat | Dog, ["cat", "9"], {"kind": "cat", "lives": 9}),
        (
            Review,
            ["y", "9", "5", "", "", "", "n"],
            {"approved": True, "score": 5, "tone": "dry", "note": None, "lines": []},
        ),
        (
            Review,
            ["n", "", "warm", "so so", "a", "b", "", "y", "", "bread", "2", "n"],
            {"approved": False, "score": 3, "tone": "warm", "note": "so so", "tags": ["a", "b"],
             "lines": [{"what": "bread", "count": 2}]},
        ),
        (Options, ["", "", "n"], {"line": None}),
        (Options, ["x", "", "4", "y", "w", ""],
         {"words": ["x"], "depth": 4, "line": {"what": "w", "count": 1}}),
    ],
    ids=str,
)  # fmt: skip
def test_lines_become_the_answer(asked: Any, lines: list[str], answer: Any) -> None:
    found, _ = played(asked, lines)
    assert found == answer
    assert type(found) is type(answer)
    assert schemas.find_misfits(found, schemas.schema_of(asked), asked) == []


def test_a_bad_line_is_explained_and_asked_again() -> None:
    _, screen = played(Review, ["y", "9", "5", "", "", "", "n"])
    assert "approved (y/n) y\n" in screen
    assert "score (how good it is), a whole number, 1 to 5 [3]: 9\n" in screen
    assert "! Input should be less than or equal to 5 (it is 9)\n" in screen
    assert "1. dry\n  2. warm\n" in screen


def test_what_only_the_whole_knows_is_asked_for_again_by_field() -> None:
    def check(data: Any) -> list[Problem]:
        return [] if data["count"] > 5 else [Problem(("count",), "too few for this customer")]

    answer, screen = played(Line, ["bread", "1", "6"], check)
    assert answer == {"what": "bread", "count": 6}
    assert "! count: too few for this customer\n" in screen
    assert screen.count("what") == 1


def test_a_gate_is_a_question_of_yes_or_no() -> None:
    assert played(None, ["", "y"])[0] is None
    with pytest.raises(forms.Declined):
        played(None, ["no"])


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (bool, "yes or no"),
        (None, "whether to go on"),
        (Tone, "dry | warm"),
        (list[int], "a list of a whole number"),
        (int | None, "a whole number | nothing"),
        (Line, "{what: text, count?: a whole number}"),
        (Any, "anything"),
        (dict, "an object"),
    ],
    ids=str,
)
def test_what_is_asked_for_is_said_in_a_line(asked: Any, text: str) -> None:
    schema = schemas.schema_of(asked)
    assert forms.described(None if schema is None else json.loads(schema)) == text


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/Missing"},
        {"$ref": 5},
        {"$defs": {"A": {"$ref": "#/$defs/A"}}, "$ref": "#/$defs/A"},
        {"type": "frog"},
        {"type": "string", "minLength": "x"},
    ],
    ids=str,
)
def test_an_odd_schema_is_asked_for_as_it_comes(schema: Any) -> None:
    form = forms.fill(schema, lambda data: [])
    asked = next(form)
    assert isinstance(asked, forms.Ask)
    with pytest.raises(StopIteration) as end:
        form.send('"x"')
    assert end.value.value in ("x", '"x"')
    assert forms.described(schema)
