"""A class has changed since its records were made: filled, converted, validated, or a typed error.

The same record is read by several classes of today, made anew for each test.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.engine.looking import calls, retry
from tests.test_values_classes import shape_of_today, stored

import kitaru
from kitaru._core.payload import Payload, seal
from kitaru._core.values import changes, decode, encode
from kitaru._core.values.shapes import annotation_text
from kitaru.errors import KitaruUsageError, KitaruUserCodeError, KitaruValueError

WHAT = "checkpoint 'fetch'"

HEADS = {
    "dataclass": "import dataclasses\n@dataclasses.dataclass\nclass Order:\n    ",
    "pydantic": "import pydantic\nclass Order(pydantic.BaseModel):\n    ",
    "attrs": "import attrs\n@attrs.define\nclass Order:\n    ",
    "namedtuple": "import typing\nclass Order(typing.NamedTuple):\n    ",
}
LOUD = "\n    def __init__(self, **given): raise RuntimeError('ran')"


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    yield
    sys.modules.pop("shapes_under_test", None)
    changes._upcasts.clear()
    changes._told.clear()


def record(head: str, fields: str = "euros: float\n    note: str = ''", **given: Any) -> Payload:
    arguments = ", ".join(f"{name}={value!r}" for name, value in given.items())
    return stored(HEADS.get(head, head) + fields, f"Order({arguments})")


def today(head: str, fields: str) -> Any:
    return shape_of_today(HEADS.get(head, head) + fields)


def read(payload: Payload) -> Any:
    return decode(payload, what=WHAT)


@pytest.mark.parametrize("head", HEADS)
def test_the_same_shape_is_rebuilt_without_its_code(head: str) -> None:
    payload = record(head, euros=1.5, note="x")
    if head == "namedtuple":
        today(head, "euros: float\n    note: str = ''\n    def __len__(self): raise RuntimeError")
    else:
        today(head, "euros: float\n    note: str = ''" + LOUD)
    order = read(payload)
    assert (order.euros, order.note) == (1.5, "x")


@pytest.mark.parametrize("head", HEADS)
def test_new_fields_get_their_plain_defaults_without_asking_anybody(head: str) -> None:
    payload = record(head, euros=1.5)
    module = today(head, "euros: float\n    note: str = ''\n    paid: bool = False")
    kitaru.upcast(module.Order)(lambda old: 1 / 0)
    order = read(payload)
    assert (order.euros, order.paid) == (1.5, False)


def test_a_new_field_of_a_model_that_was_filled_counts_as_not_set() -> None:
    payload = record("pydantic", euros=1.5, note="x")
    today("pydantic", "euros: float\n    note: str = ''\n    paid: bool = False")
    assert read(payload).model_fields_set == {"euros", "note"}


@pytest.mark.parametrize("head", HEADS)
def test_an_upcast_converts_what_was_recorded(
    head: str, capsys: pytest.CaptureFixture[str]
) -> None:
    payload = record(head, euros=1.5, note="x")
    module = today(head, "cents: int\n    note: str = ''")
    asked: list[Any] = []

    @kitaru.upcast(module.Order)
    def from_euros(old: dict[str, Any]) -> Any:
        asked.append(old)
        return module.Order(cents=round(old["euros"] * 100), note=old["note"])

    order = read(payload)
    assert type(order) is module.Order
    assert (order.cents, order.note) == (150, "x")
    assert asked == [{"euros": 1.5, "note": "x"}]
    assert capsys.readouterr().err == ""


def test_an_upcast_is_given_extras_and_converted_parts() -> None:
    head = "import pydantic\nclass Order(pydantic.BaseModel, extra='allow'):\n    "
    source = head + "euros: float\n    part: 'Order | None' = None"
    payload = stored(source, "Order(euros=1, more=2, part=Order(euros=3))")
    module = today(head, "cents: int\n    part: 'Order | None' = None")
    kitaru.upcast(module.Order)(
        lambda old: module.Order(cents=old["euros"] * 100, part=old["part"], kept=old.get("more"))
    )
    order = read(payload)
    assert (order.cents, order.kept, order.part.cents) == (100, 2, 300)


def test_an_upcast_that_raises_or_returns_something_else_is_a_typed_error() -> None:
    payload = record("dataclass", euros=1.5)
    module = today("dataclass", "cents: int")

    @kitaru.upcast(module.Order)
    def convert(old: dict[str, Any]) -> Any:
        if old["euros"] > 1:
            raise LookupError("no rate")
        return old

    with pytest.raises(KitaruValueError, match=r"convert raised LookupError: no rate") as caught:
        decode(payload, what=WHAT)
    assert isinstance(caught.value.__cause__, LookupError)
    assert caught.value.path == "$"
    payload = record("dataclass", euros=0.5)
    today("dataclass", "cents: int")
    with pytest.raises(KitaruValueError, match=r"convert returned a dict.*kept as it is"):
        decode(payload, what=WHAT)


def test_without_an_upcast_todays_model_validates_and_says_so_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    payload = record("pydantic", euros=1.5, note="7")
    today("pydantic", "euros: str | float\n    number: int = pydantic.Field(default_factory=id)")
    module = today(
        "pydantic",
        "euros: float\n    twice: float = pydantic.Field(default_factory=lambda data: "
        "data['euros'] * 2)",
    )
    order = read(payload)
    assert type(order) is module.Order
    assert (order.euros, order.twice) == (1.5, 3.0)
    said = capsys.readouterr().err
    assert "checkpoint 'fetch': at $: shapes_under_test:Order has changed" in said
    assert "no longer there: note" in said
    assert "which ran its code" in said
    assert "@kitaru.upcast(Order)" in said
    read(payload)
    assert capsys.readouterr().err == ""


def test_todays_model_validates_by_name_whatever_its_aliases_and_keeps_what_is_private() -> None:
    source = "a: int = pydantic.Field(alias='A')\n    gone: int = 0\n    _p: int = 1"
    payload = stored(HEADS["pydantic"] + source, "Order(A=1)")
    payload = payload._replace(data=payload.data)
    today("pydantic", "a: int = pydantic.Field(alias='B')\n    _p: int = 2")
    order = read(payload)
    assert (order.a, order._p) == (1, 1)


def test_what_fits_neither_is_a_typed_error_with_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for head, reason in {
        "pydantic": "Field required",
        "dataclass": "unexpected keyword argument 'euros'",
        "attrs": "unexpected keyword argument 'euros'",
        "namedtuple": "unexpected keyword argument 'euros'",
    }.items():
        payload = record(head, euros=1.5)
        today(head, "cents: int")
        with pytest.raises(KitaruValueError, match=reason) as caught:
            read(payload)
        text = str(caught.value)
        assert "new without a plain default: cents; no longer there: euros" in text
        assert "@kitaru.upcast(Order)" in text
        assert "kept as it is" in text
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("head", HEADS)
def test_a_field_that_changed_its_type_is_converted_or_a_typed_error(
    head: str, capsys: pytest.CaptureFixture[str]
) -> None:
    payload = stored(HEADS[head] + "id: int\n    n: int = 0", "Order(id=5)")
    module = shape_of_today(HEADS[head] + "id: str\n    n: int = 0")
    if head == "pydantic":
        with pytest.raises(KitaruValueError, match=r"id is an int, not str.*valid string"):
            read(payload)
    else:
        assert read(payload).id == 5  # today's class takes anything, and that is said
        assert "has changed since the value was recorded (id is an int, not str)" in (
            capsys.readouterr().err
        )
    kitaru.upcast(module.Order)(lambda old: module.Order(id=str(old["id"])))
    assert read(payload).id == "5"


@pytest.mark.parametrize("head", HEADS)
def test_annotations_that_still_fit_ask_nobody(head: str) -> None:
    payload = stored(HEADS[head] + "id: int", "Order(id=5)")
    module = shape_of_today("import typing\n" + HEADS[head] + "id: typing.Optional[int | str]")
    kitaru.upcast(module.Order)(lambda old: 1 / 0)
    assert read(payload).id == 5
    module = shape_of_today(HEADS[head] + "id: Missing")
    kitaru.upcast(module.Order)(lambda old: 1 / 0)
    if head != "pydantic":
        assert read(payload).id == 5


def test_a_value_that_never_fitted_its_annotation_comes_back_while_that_stays() -> None:
    payload = stored(HEADS["dataclass"] + "id: int", "Order(id='five')")
    module = shape_of_today(HEADS["dataclass"] + "id: int")
    kitaru.upcast(module.Order)(lambda old: 1 / 0)
    assert read(payload).id == "five"


def test_annotations_are_told_apart_as_texts_and_as_objects() -> None:
    from typing import ForwardRef, List, Literal, Optional, Union  # noqa: UP035

    texts = [
        annotation_text(each)
        for each in (
            *(int, str, None, list[int], list[str], List[int], dict[str, int]),  # noqa: UP006
            *(int | None, Optional[int], Union[int, str]),  # noqa: UP007, UP045
            *(Literal["a"], Literal[1], Literal[2]),
            *("list[ int ]", "Order", ForwardRef("Order"), encode),
        )
    ]
    assert texts[13] == "list[int]"
    assert texts[14] == texts[15] == "Order"
    assert len(set(texts[:7])) == 6  # List[int] is list[int]
    assert len(set(texts[10:13])) == 3


def test_a_record_of_before_types_were_noted_is_judged_by_its_names() -> None:
    payload = stored(HEADS["dataclass"] + "id: int", "Order(id=5)")
    shape = payload.data.partition(b'"shape":"')[2].partition(b'"')[0]
    old = seal("json", payload.data.replace(shape, shape.partition(b".")[0]))
    shape_of_today(HEADS["dataclass"] + "id: str")
    assert read(old).id == 5


@pytest.mark.parametrize("was", HEADS)
@pytest.mark.parametrize("now", HEADS)
def test_a_class_may_become_another_kind_of_data_class(was: str, now: str) -> None:
    payload = record(was, euros=1.5, note="x")
    module = today(now, "euros: float\n    note: str = ''")
    order = read(payload)
    assert type(order) is module.Order
    assert (order.euros, order.note) == (1.5, "x")


def test_a_class_that_became_an_enum_is_a_typed_error() -> None:
    payload = record("dataclass", euros=1.5)
    shape_of_today("import enum\nclass Order(enum.Enum):\n    A = 1")
    with pytest.raises(KitaruValueError, match="was a dataclass"):
        read(payload)


def test_an_upcast_gives_the_member_for_one_that_is_gone_or_has_another_value() -> None:
    source = "import enum\nclass Kind(enum.Enum):\n    OLD = 'o'\n    OTHER = (1, 2)"
    payloads = [stored(source, "Kind.OLD"), stored(source, "Kind.OTHER")]
    module = shape_of_today("import enum\nclass Kind(enum.Enum):\n    NEW = 'n'\n    OTHER = 3")
    for payload in payloads:
        with pytest.raises(KitaruValueError, match=r"@kitaru\.upcast\(Kind\)"):
            read(payload)
    asked: list[Any] = []
    kitaru.upcast(module.Kind)(lambda old: asked.append(old) or module.Kind.NEW)
    assert [read(payload) for payload in payloads] == [module.Kind.NEW] * 2
    assert asked == [{"name": "OLD", "value": "o"}, {"name": "OTHER", "value": (1, 2)}]


def test_what_is_stored_now_is_never_converted_to_be_stored() -> None:
    module = shape_of_today(HEADS["dataclass"] + "euros: float")
    order = module.Order(1.5)
    today("dataclass", "cents: int")
    kitaru.upcast(sys.modules["shapes_under_test"].Order)(lambda old: pytest.fail("asked"))
    with pytest.raises(KitaruValueError, match="has changed"):
        encode(order, what=WHAT)


@pytest.mark.parametrize("model", [int, dict, object, "Order", None, print])
def test_only_a_data_class_can_be_upcast(model: Any) -> None:
    with pytest.raises(KitaruUsageError, match=r"@kitaru\.upcast\(Order\)"):
        kitaru.upcast(model)


def test_an_upcast_is_one_ordinary_function() -> None:
    module = today("dataclass", "cents: int")

    async def later(old: dict[str, Any]) -> None: ...

    def several(old: dict[str, Any]) -> Any:
        yield old

    for convert in (later, several, 3):
        with pytest.raises(KitaruUsageError, match="ordinary function"):
            kitaru.upcast(module.Order)(convert)  # type: ignore[type-var]

    def one(old: dict[str, Any]) -> Any: ...
    def other(old: dict[str, Any]) -> Any: ...

    assert kitaru.upcast(module.Order)(one) is one
    kitaru.upcast(module.Order)(one)
    with pytest.raises(KitaruUsageError, match="two functions upcast"):
        kitaru.upcast(module.Order)(other)


# --- in an execution ---------------------------------------------------------------------

ran: list[str] = []


@kitaru.checkpoint
def order_of_today() -> Any:
    ran.append("order")
    return sys.modules["shapes_under_test"].Order(euros=1.5)  # type: ignore[attr-defined]


@kitaru.checkpoint
def charge(cents: int) -> int:
    ran.append("charge")
    if "declined" not in ran:
        ran.append("declined")
        raise ValueError("declined")
    return cents


@kitaru.flow
def shop() -> int:
    order = order_of_today()
    return charge(order.cents if hasattr(order, "cents") else 0)


def test_a_retry_after_a_change_reads_with_the_upcast_and_loses_nothing(own_store: Path) -> None:
    ran.clear()
    shape_of_today(HEADS["dataclass"] + "euros: float")
    handle = shop.run()
    with pytest.raises(KitaruUserCodeError, match="declined"):
        handle.wait()
    module = today("dataclass", "cents: int")
    with pytest.raises(
        KitaruUserCodeError, match=r"order_of_today: at \$: shapes_under_test:Order"
    ):
        retry(shop, handle.exec_id).wait()
    assert ran == ["order", "charge", "declined"]
    kitaru.upcast(module.Order)(lambda old: module.Order(round(old["euros"] * 100)))
    assert retry(shop, handle.exec_id).wait() == 150
    assert ran == ["order", "charge", "declined", "charge"]
    assert calls(handle.exec_id)[0].state.value == "completed"


@kitaru.flow
def stubborn() -> int:
    try:
        order_of_today()
    except KitaruValueError:
        ran.append("caught")
    return charge(1)


def test_nothing_new_runs_on_top_of_a_record_that_cannot_be_read(own_store: Path) -> None:
    ran[:] = []
    shape_of_today(HEADS["dataclass"] + "euros: float")
    handle = stubborn.run()
    with pytest.raises(KitaruUserCodeError, match="declined"):
        handle.wait()
    module = today("dataclass", "cents: int")
    ran[:] = []
    with pytest.raises(KitaruUserCodeError, match=r"order_of_today: at \$: shapes_under_test"):
        retry(stubborn, handle.exec_id).wait()
    assert ran == ["caught"]
    kitaru.upcast(module.Order)(lambda old: module.Order(round(old["euros"] * 100)))
    ran[:] = ["declined"]
    assert retry(stubborn, handle.exec_id).wait() == 1
    assert ran == ["declined", "charge"]


@kitaru.checkpoint
def order_by_name(name: str) -> Any:
    ran.append(name)
    fields = {"euros": 1.5} if "euros" in name else {"cents": 3}
    return sys.modules[name.partition(" ")[0]].Order(**fields)


@kitaru.flow
def fetching(name: str) -> Any:
    return order_by_name(name)


def test_a_result_that_cannot_be_read_here_is_not_reused_and_the_reason_is_on_record(
    own_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "shapes_under_test euros"
    shape_of_today(HEADS["pydantic"] + "euros: float")
    first = fetching.run(name)
    first.wait()
    shape_of_today(HEADS["pydantic"] + "euros: float\n    twice: int = pydantic.Field(gt=0)")
    ran[:] = []
    with pytest.raises(KitaruUserCodeError, match="ValidationError"):
        fetching.run(name).wait()
    assert ran == [name]  # it was run, and failed by today's class, not by the record
    [call] = kitaru.KitaruClient().executions.latest().checkpoints
    assert call.reason == (
        f"what {first.exec_id} recorded is of a class that is not loaded here or has changed"
    )
