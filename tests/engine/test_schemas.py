"""What a wait asks for: types as JSON Schema, and answers held against both."""

from __future__ import annotations

import dataclasses
import enum
import json
import subprocess
import sys
import typing
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import pydantic
import pytest

from kitaru._core.json_schema import find_problems
from kitaru._engine import schemas
from kitaru.errors import KitaruUsageError, KitaruWaitValidationError


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Amount:
    value: int
    currency: Literal["EUR", "CHF"] = "EUR"


class Line(pydantic.BaseModel):
    what: str = pydantic.Field(min_length=1)
    amount: Amount


class Review(pydantic.BaseModel):
    """What a reviewer says."""

    approved: bool
    score: int = pydantic.Field(default=3, ge=1, le=5)
    colour: Colour = Colour.RED
    note: str | None = None
    lines: list[Line] = []
    due: datetime | None = None

    @pydantic.field_validator("note")
    @classmethod
    def no_shouting(cls, note: str | None) -> str | None:
        if note is not None and note.isupper():
            raise ValueError("no shouting")
        return note


class Tree(pydantic.BaseModel):
    name: str
    below: list[Tree] = []


class Address(typing.TypedDict, total=False):
    street: typing.Required[str]
    number: int


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


Pet = typing.Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]

FITTING: list[tuple[Any, Any, Any]] = [
    (bool, True, True),
    (str, "", ""),
    (str, "null", "null"),
    (int, 2**70, 2**70),
    (float, 1, 1.0),
    (Any, {"x": [None]}, {"x": [None]}),
    (list, [1, "a"], [1, "a"]),
    (dict, {"$kitaru": "set"}, {"$kitaru": "set"}),
    (Literal["a", 1], 1, 1),
    (Colour, "blue", Colour.BLUE),
    (list[int], [1], [1]),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (tuple[int, str], [1, "a"], (1, "a")),
    (set[int], [2, 1], {1, 2}),
    (int | None, None, None),
    (datetime, "2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
    (Decimal, "1.50", Decimal("1.50")),
    (UUID, "12345678-1234-5678-1234-567812345678", UUID("12345678-1234-5678-1234-567812345678")),
    (Amount, {"value": 3}, Amount(3)),
    (Review, {"approved": False, "score": 5}, Review(approved=False, score=5)),
    (Address, {"street": "Rhine"}, {"street": "Rhine"}),
    (list[Address], [{"street": "Aare", "number": 2}], [{"street": "Aare", "number": 2}]),
    (Address | None, None, None),
    (Tree, {"name": "a", "below": [{"name": "b"}]}, Tree(name="a", below=[Tree(name="b")])),
    (Pet, {"kind": "dog"}, Dog(kind="dog")),
]

UNFIT: list[tuple[Any, Any, str]] = [
    (bool, "yes", "bool"),
    (bool, 1, "bool"),
    (int, "1", "int"),
    (int, True, "int"),
    (int, 1.0, "int"),
    (str, 1, "str"),
    (float, "1.0", "float"),
    (Literal["a", "b"], "c", "'a'"),
    (Literal[1], True, "1"),
    (Colour, "green", "'red'"),
    (list[int], [1, "2"], "[1]"),
    (dict[str, int], {"a": "1"}, "a"),
    (Amount, {"value": "3"}, "value"),
    (Amount, {}, "value"),
    (Review, {"approved": True, "score": 9}, "score"),
    (Review, {"approved": True, "lines": [{"what": "", "amount": {"value": 1}}]}, "lines[0].what"),
    (Review, {"approved": True, "due": "tomorrow"}, "due"),
    (Tree, {"name": "a", "below": [{"name": 1}]}, "below[0].name"),
    (Address, {"number": 1}, "street"),
    (datetime, "soon", "datetime"),
    (Pet, {"kind": "cow"}, "kind"),
    (None, "yes", "null"),
    (None, False, "null"),
]


@pytest.mark.parametrize(("asked", "given", "value"), FITTING, ids=str)
def test_what_fits_is_taken_with_the_class_and_without(asked: Any, given: Any, value: Any) -> None:
    schema = schemas.schema_of(asked)
    assert schema is not None
    assert find_problems(given, json.loads(schema)) == []
    assert schemas.find_misfits(given, schema, asked) == []
    payload = schemas.sealed_answer(given, schema=schema, wait="w")
    received = schemas.receive(payload, asked, wait="w")
    assert received == value
    assert type(received) is type(value)


@pytest.mark.parametrize(("asked", "given", "named"), UNFIT, ids=str)
def test_what_does_not_fit_is_refused_with_the_class_and_without(
    asked: Any, given: Any, named: str
) -> None:
    schema = schemas.schema_of(asked)
    without_class = schemas.find_misfits(given, schema)
    assert without_class
    assert any(named in str(problem) or asked in (bool, str, int, float, datetime)
               for problem in without_class)  # fmt: skip
    with_class = schemas.find_misfits(given, schema, asked)
    assert with_class
    said = str(schemas.unfit("approve", with_class))
    assert named in said
    assert "still open" in said


def test_only_the_class_knows_its_own_validators() -> None:
    shouted = {"approved": True, "note": "NO"}
    schema = schemas.schema_of(Review)
    assert schemas.find_misfits(shouted, schema) == []
    assert "no shouting" in str(schemas.find_misfits(shouted, schema, Review)[0])
    payload = schemas.sealed_answer(shouted, schema=schema, wait="approve")
    with pytest.raises(KitaruWaitValidationError, match=r"note: .*no shouting") as caught:
        schemas.receive(payload, Review, wait="approve")
    assert caught.value.code == "wait-answer-invalid"


def test_a_validator_that_raises_anything_refuses_the_answer() -> None:
    class Hostile(pydantic.BaseModel):
        n: int

        @pydantic.field_validator("n")
        @classmethod
        def check(cls, n: int) -> int:
            raise ZeroDivisionError("boom")

    found = schemas.find_misfits({"n": 1}, schemas.schema_of(Hostile), Hostile)
    assert "ZeroDivisionError: boom" in str(found[0])


@pytest.mark.parametrize("asked", [bool, str, int, float, list, dict, Any, Literal["a", "b"],
                                   Literal[1], Literal["a", 1], Literal["a", None]])  # fmt: skip
def test_plain_schemas_are_what_pydantic_would_write(asked: Any) -> None:
    schema = schemas.schema_of(asked)
    assert schema is not None
    assert json.loads(schema) == pydantic.TypeAdapter(asked).json_schema()


class Secretive(pydantic.BaseModel):
    token: pydantic.SecretStr


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ("bool", "wait-schema-invalid"),
        ({"type": "object"}, "wait-schema-invalid"),
        (True, "wait-schema-invalid"),
        (3, "wait-schema-invalid"),
        (object(), "wait-schema-invalid"),
        (type("Client", (), {}), "wait-schema-invalid"),
        (Secretive, "secret-in-value"),
        (list[pydantic.SecretStr], "secret-in-value"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_at_once(asked: Any, code: str) -> None:
    with pytest.raises(KitaruUsageError) as caught:
        schemas.schema_of(asked)
    assert caught.value.code == code


def test_objects_are_answered_as_json_says_them() -> None:
    given = Review(approved=True, due=datetime(2026, 3, 1, tzinfo=UTC))
    data = schemas.answer_of(given, wait="w")
    assert data["due"] == "2026-03-01T00:00:00Z"
    assert data["colour"] == "red"
    assert schemas.answer_of(Amount(3), wait="w") == {"value": 3, "currency": "EUR"}
    assert schemas.answer_of(Colour.BLUE, wait="w") == "blue"
    payload = schemas.sealed_answer(data, schema=schemas.schema_of(Review), wait="w")
    assert schemas.receive(payload, Review, wait="w") == given


@pytest.mark.parametrize("given", [object(), lambda: None, open])
def test_what_has_no_json_is_no_answer(given: Any) -> None:
    with pytest.raises(KitaruWaitValidationError, match="has no JSON"):
        schemas.answer_of(given, wait="w")


def test_a_gate_takes_nothing_or_go_on() -> None:
    assert schemas.find_misfits(None, None) == schemas.find_misfits(True, None) == []
    payload = schemas.sealed_answer(True, schema=None, wait="w")
    assert payload.data == b"null"
    assert schemas.receive(payload, None, wait="w") is None


def test_a_type_is_known_by_its_schema_unless_two_have_the_same() -> None:
    def make() -> Any:
        class Same(pydantic.BaseModel):
            n: int

        return Same

    one, other = make(), make()
    schema = schemas.schema_of(one)
    assert schema is not None
    assert schema == schemas.schema_of(other)
    schemas.remember("flow", schema, one)
    schemas.remember("flow", schema, one)
    assert schemas.known_type("flow", schema) is one
    assert schemas.known_type("another flow", schema) is None
    schemas.remember("flow", schema, other)
    assert schemas.known_type("flow", schema) is None


def test_an_on_expire_that_could_not_be_answered_is_refused() -> None:
    assert schemas.default_of(False, bool, wait="w").data == b"false"
    assert schemas.default_of(Amount(1), Amount, wait="w").data
    for value, asked in (("no", bool), ({"value": "x"}, Amount), (3, None)):
        with pytest.raises(KitaruUsageError, match="on_expire"):
            schemas.default_of(value, asked, wait="w")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "frog"},
        {"$ref": "#/$defs/Missing"},
        {"type": ["string", "null"]},
        {"type": "string", "minLength": "x"},
        {"type": "string", "pattern": "(?<=a)b"},
        {"enum": []},
        {"enum": [{}]},
        {"anyOf": []},
        {"properties": [], "type": "object"},
        {"allOf": [{}, {}]},
    ],
)
def test_a_schema_that_we_did_not_write_lets_the_class_decide(schema: Any) -> None:
    assert find_problems("text", schema) == []


def test_a_schema_that_refers_to_itself_for_ever_is_no_hang() -> None:
    schema = {"$defs": {"A": {"$ref": "#/$defs/A"}}, "$ref": "#/$defs/A"}
    assert find_problems(1, schema) == []


def test_hostile_data_is_a_problem_and_no_crash() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert find_problems(deep, {"type": "array"})
    assert find_problems("\ud800", {"type": "string"})
    assert find_problems(float("nan"), {"type": "number"}) == []


def test_plain_types_never_load_pydantic() -> None:
    program = (
        "import sys; from kitaru._engine import schemas; from typing import Any, Literal\n"
        "for asked in (bool, str, int, float, None, Any, Literal['a', 'b']):\n"
        "    schema = schemas.schema_of(asked)\n"
        "given = schemas.sealed_answer(True, schema='{}', wait='w')\n"
        "assert schemas.receive(given, bool, wait='w') is True\n"
        "assert schemas.find_misfits(1, '{}', bool)\n"
        "assert not [m for m in sys.modules if m.startswith('pydantic')]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
