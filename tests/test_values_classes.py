"""Data classes come back without a line of their code run, and nothing is imported for them."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import functools
import io
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import pydantic
import pytest

from kitaru._core.payload import Payload
from kitaru._core.values import classes_in, decode, dump, encode, find_class, to_tree
from kitaru.errors import KitaruValueError
from kitaru.status import ExecutionStatus

calls: list[str] = []
T = TypeVar("T")


def there_and_back(value: Any) -> Any:
    payload = encode(value, what="a test")
    calls.clear()
    back = decode(payload, what="a test")
    assert type(back) is type(value)
    assert encode(back, what="a test") == payload
    return back


@dataclasses.dataclass
class Loud:
    a: int
    scale: dataclasses.InitVar[int] = 1
    b: list[int] = dataclasses.field(default_factory=list)
    hidden: ClassVar[int] = 7

    def __post_init__(self, scale: int) -> None:
        calls.append("__post_init__")
        self.a *= scale

    def __setattr__(self, name: str, value: Any) -> None:
        calls.append("__setattr__")
        object.__setattr__(self, name, value)

    def __getattribute__(self, name: str) -> Any:
        calls.append("__getattribute__")
        return object.__getattribute__(self, name)


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Point:
    x: int
    y: float = 0.0


@dataclasses.dataclass
class Box(Generic[T]):
    item: T
    made: str = dataclasses.field(init=False)


@dataclasses.dataclass
class Cached:
    n: int

    @functools.cached_property
    def double(self) -> int:
        return 2 * self.n


def _next_number() -> int:
    calls.append("factory")
    return len(calls)


@dataclasses.dataclass
class Numbered:
    n: int = dataclasses.field(default_factory=_next_number)


class Row(NamedTuple):
    key: str
    value: Any = None


class Colour(enum.Enum):
    RED = "red"
    GREEN = ("green", 2)
    CRIMSON = "red"  # noqa: PIE796
    UNHASHABLE = [1]  # noqa: RUF012


class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()
    BOTH = READ | WRITE


class Bits(enum.IntFlag):
    LOW = 1
    HIGH = 8


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str = pydantic.Field(alias="Name")
    point: Point | None = None
    tags: set[str] = pydantic.Field(default_factory=set)
    _secret: int = pydantic.PrivateAttr(default=3)

    @pydantic.field_validator("name")
    @classmethod
    def shout(cls, value: str) -> str:
        calls.append("validator")
        return value.upper()


@pydantic.dataclasses.dataclass
class Checked:
    a: int
    b: list[int] = pydantic.Field(default_factory=list)


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Frozen(pydantic.BaseModel, frozen=True):
    n: int = 1

    @functools.cached_property
    def double(self) -> int:
        return 2 * self.n


class Page(pydantic.BaseModel):
    url: pydantic.HttpUrl


class Stored:
    """A descriptor that keeps its value under another name."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = "_" + name

    def __get__(self, instance: Any, owner: type) -> Any:
        calls.append("__get__")
        return 5 if instance is None else vars(instance)[self.name]

    def __set__(self, instance: Any, value: Any) -> None:
        calls.append("__set__")
        vars(instance)[self.name] = value


@dataclasses.dataclass
class Described:
    n: int = Stored()  # type: ignore[assignment]


class Wrapped(pydantic.BaseModel, Generic[T]):
    item: T


class Holder(pydantic.BaseModel):
    key: pydantic.SecretStr


def test_a_dataclass_comes_back_without_its_code_running() -> None:
    loud = Loud(2, 10, [1])
    back = there_and_back(loud)
    assert vars(back) == {"a": 20, "b": [1]}
    payload = encode(loud, what="a test")
    calls.clear()
    decode(payload, what="a test")
    assert calls == []


def test_frozen_dataclasses_with_slots_come_back() -> None:
    assert there_and_back([Point(1), Point(2, 3.5)]) == [Point(1), Point(2, 3.5)]
    assert there_and_back({Point(1): {Point(2)}}) == {Point(1): {Point(2)}}


def test_a_field_that_was_never_set_is_not_set_when_it_comes_back() -> None:
    back = there_and_back(Box(item=(1, 2)))
    assert back.item == (1, 2)
    assert not hasattr(back, "made")


def test_an_attribute_that_is_no_field_is_kept_and_a_cached_property_is_not() -> None:
    value = Cached(4)
    assert value.double == 8
    value.note = "mine"  # type: ignore[attr-defined]
    back = there_and_back(value)
    assert vars(back) == {"n": 4, "note": "mine"}


def test_named_tuples_come_back_as_themselves() -> None:
    back = there_and_back(Row("a", Row("b", (1,))))
    assert back == Row("a", Row("b", (1,)))
    assert type(back.value) is Row


def test_enum_members_come_back_as_the_same_objects() -> None:
    for member in (*Colour, Colour.CRIMSON, ExecutionStatus.FAILED, Access.READ, Bits.HIGH):
        assert decode(encode(member, what="a test"), what="a test") is member


def test_combined_flags_come_back() -> None:
    for value in (Access(0), Access.BOTH, Bits.LOW | Bits.HIGH, Bits(6)):
        assert there_and_back(value) == value


def test_a_model_comes_back_without_its_validators_running() -> None:
    model = Model(Name="ann", point=Point(1), extra_one=[1])
    model._secret = 9
    back = there_and_back(model)
    assert calls == []
    assert back == model
    assert back.name == "ANN"
    assert back._secret == 9
    assert back.model_extra == {"extra_one": [1]}
    assert back.model_fields_set == model.model_fields_set
    assert back.model_copy() == model


def test_other_kinds_of_models_come_back() -> None:
    frozen = Frozen(n=2)
    assert frozen.double == 4
    for value in (Checked(1, [2]), Numbers([1]), frozen, {frozen: [Frozen()]}):
        assert there_and_back(value) == value
    assert "double" not in vars(there_and_back(frozen))
    unset = there_and_back(Frozen())
    assert unset.model_fields_set == set()


def test_a_field_behind_a_descriptor_comes_back_without_the_descriptor_running() -> None:
    payload = encode(Described(3), what="a test")
    calls.clear()
    back: Any = decode(payload, what="a test")
    assert calls == []
    assert back.n == 3


def test_a_field_of_a_library_that_has_no_encoding_is_refused_with_a_remedy() -> None:
    with pytest.raises(KitaruValueError, match="as str") as caught:
        encode(Page(url="http://example.org"), what="a test")  # type: ignore[arg-type]
    assert caught.value.path == "$.url"


def test_a_parametrised_model_comes_back() -> None:
    assert there_and_back(Wrapped[int](item=3)) == Wrapped[int](item=3)


def test_what_could_not_be_read_back_is_refused_when_it_is_stored() -> None:
    twin = object.__new__(Colour)
    twin._name_, twin._value_ = "MAUVE", "mauve"
    with pytest.raises(KitaruValueError, match="no member 'MAUVE'"):
        encode(twin, what="a test")


def test_a_local_class_comes_back_in_the_process_that_stored_it() -> None:
    @dataclasses.dataclass
    class Local:
        n: int

    assert there_and_back(Local(3)) == Local(3)


def test_a_secret_is_refused_with_the_remedy_and_its_path() -> None:
    with pytest.raises(KitaruValueError, match="secret") as caught:
        encode({"all": [Holder(key=pydantic.SecretStr("hush"))]}, what="checkpoint 'login'")
    assert caught.value.path == "$.all[0].key"
    assert caught.value.checkpoint == "checkpoint 'login'"
    assert "hush" not in str(caught.value)


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Table(dict):  # type: ignore[type-arg]
    pass


class Plain:
    pass


def _generator() -> Iterator[int]:
    yield 1


class Lying:
    @property
    def __class__(self) -> type:
        return int

    def __repr__(self) -> str:
        raise ValueError("no repr")

    def __eq__(self, other: object) -> bool:
        raise ValueError("no eq")

    def __hash__(self) -> int:
        raise ValueError("no hash")


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (Text("x"), r"str\(…\)"),
        (Whole(1), r"int\(…\)"),
        (Table(a=1), r"dict\(…\)"),
        (Plain(), "dataclass"),
        (Lying(), "dataclass"),
        (_generator(), r"list\(…\)"),
        (iter([1]), r"list\(…\)"),
        (threading.Lock(), "lock"),
        (io.StringIO(), "path"),
        (sys, "its name"),
        (Point, "its name"),
        (len, "what it returns"),
        (lambda: 1, "what it returns"),
        (functools.partial(len), "what it is called with"),
        (memoryview(b"a"), "bytes"),
        (types.MappingProxyType({}), "dict"),
        (object(), "dataclass"),
        (NotImplemented, "return None"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_encoding_is_refused_with_path_type_and_remedy(value: Any, remedy: str) -> None:
    with pytest.raises(KitaruValueError, match=remedy) as caught:
        encode({"items": [1, (value,)]}, what="checkpoint 'fetch'")
    assert caught.value.path == "$.items[1][0]"
    assert "checkpoint 'fetch': at $.items[1][0]: a " in str(caught.value)
    assert type(value).__name__ in str(caught.value)


def test_a_coroutine_is_refused() -> None:
    async def work() -> None:
        return None

    coroutine = work()
    with pytest.raises(KitaruValueError, match="await it"):
        encode(coroutine, what="a test")
    asyncio.run(coroutine)


def test_the_fallback_is_asked_for_what_has_no_encoding() -> None:
    asked = []

    def fallback(value: Any, path: str) -> str:
        asked.append((value, path))
        return "opaque"

    assert to_tree({"f": [len], "n": Row("a", sys)}, fallback=fallback)["f"] == ["opaque"]
    assert asked == [(len, "$.f[0]"), (sys, "$.n.value")]


def test_the_fallback_is_asked_for_objects_that_say_what_identifies_them() -> None:
    @dataclasses.dataclass
    class Client:
        url: str

        def __kitaru_key__(self) -> str:
            return self.url

    assert to_tree([Client("u")], fallback=lambda value, path: value.__kitaru_key__()) == ["u"]


def test_fields_that_encode_as_their_default_are_left_out_of_digests_only() -> None:
    def digest(value: Any) -> bytes:
        return dump(to_tree(value, drop_defaults=True), sort=True)

    assert digest(Point(1)) == digest(Point(1, 0.0))
    assert b'"y"' not in digest(Point(1))
    assert digest(Point(1, 0)) != digest(Point(1, 0.0))
    assert digest(Row("a")) == digest(Row("a", None))
    assert b'"tags"' not in digest(Model(Name="a"))
    assert b'"b"' not in digest(Checked(1))
    assert digest(Model(Name="a", tags={"x"})) != digest(Model(Name="a"))
    assert b'"b"' not in digest(Loud(1))
    assert b'"y":0.0' in dump(to_tree(Point(1)), sort=True)


def test_a_default_factory_that_could_do_something_is_not_called_for_a_digest() -> None:
    made: list[int] = []

    def make() -> int:
        made.append(1)
        return 1

    @dataclasses.dataclass
    class Counted:
        n: int = dataclasses.field(default_factory=make)

    to_tree(Counted(1), drop_defaults=True)
    assert made == []
    calls.clear()
    to_tree(Numbered(1), drop_defaults=True)
    assert calls == []


def shape_of_today(source: str, name: str = "shapes_under_test") -> types.ModuleType:
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(textwrap.dedent(source), module.__dict__)
    return module


@pytest.fixture(autouse=True)
def _no_made_up_module() -> Iterator[None]:
    yield
    sys.modules.pop("shapes_under_test", None)


def stored(source: str, expression: str) -> Payload:
    """What a process stored whose module looked like this; its class is gone afterwards."""
    module = shape_of_today(source)
    return encode(eval(expression, module.__dict__), what="a test")


def read_today(payload: Payload, source: str) -> Any:
    module = shape_of_today(source)
    hints = tuple(c for c in vars(module).values() if isinstance(c, type))
    return decode(payload, what="checkpoint 'fetch'", hints=hints)


DATACLASS = "import dataclasses\n@dataclasses.dataclass\nclass Order:\n    "
MODEL = "import pydantic\nclass Order(pydantic.BaseModel):\n    "


@pytest.mark.parametrize("head", [DATACLASS, MODEL], ids=["dataclass", "pydantic"])
def test_new_fields_with_plain_defaults_are_filled(head: str) -> None:
    payload = stored(head + "id: int", "Order(id=1)")
    order = read_today(payload, head + "id: int\n    state: str = 'new'\n    n: int | None = None")
    assert (order.id, order.state, order.n) == (1, "new", None)


@pytest.mark.parametrize("head", [DATACLASS, MODEL], ids=["dataclass", "pydantic"])
def test_a_changed_class_is_a_typed_error_that_names_the_fields(head: str) -> None:
    payload = stored(head + "id: int", "Order(id=1)")
    with pytest.raises(KitaruValueError, match=r"no longer there: id") as caught:
        read_today(payload, head + "number: int")
    assert "new without a plain default: number" in str(caught.value)
    assert "shapes_under_test:Order" in str(caught.value)
    assert "checkpoint 'fetch'" in str(caught.value)


def test_an_enum_member_that_changed_its_value_is_a_typed_error() -> None:
    payload = stored("import enum\nclass Kind(enum.Enum):\n    A = 1", "Kind.A")
    assert (
        read_today(payload, "import enum\nclass Kind(enum.Enum):\n    A = 1\n    B = 2").value == 1
    )
    with pytest.raises(KitaruValueError, match="another value"):
        read_today(payload, "import enum\nclass Kind(enum.Enum):\n    A = 2")
    with pytest.raises(KitaruValueError, match="no member 'A'"):
        read_today(payload, "import enum\nclass Kind(enum.Enum):\n    B = 1")


def test_a_flag_whose_bits_moved_is_a_typed_error() -> None:
    payload = stored("import enum\nclass F(enum.Flag):\n    A = 1\n    B = 2", "F.A | F.B")
    with pytest.raises(KitaruValueError, match="bit 'A'"):
        read_today(payload, "import enum\nclass F(enum.Flag):\n    A = 4\n    B = 2")


def test_a_class_that_is_a_data_class_no_more_is_a_typed_error() -> None:
    payload = stored(DATACLASS + "id: int", "Order(id=1)")
    with pytest.raises(KitaruValueError, match="was a dataclass"):
        read_today(payload, "class Order:\n    pass")


def test_an_unknown_class_is_a_typed_error_that_names_module_path_and_remedy() -> None:
    payload = encode({"items": [Point(1)]}, what="a test")
    tree = payload.data.replace(f"{__name__}:Point".encode(), b"shop.orders:Order")
    from kitaru._core.payload import seal

    with pytest.raises(KitaruValueError, match=r"import shop\.orders") as caught:
        decode(seal("json", tree), what="checkpoint 'fetch'")
    assert caught.value.path == "$.items[0]"
    assert "shop.orders.Order" in str(caught.value)
    assert "shop" not in sys.modules


def test_looking_for_a_class_never_asks_a_module_for_an_attribute() -> None:
    module = shape_of_today(
        "asked = []\ndef __getattr__(name):\n    asked.append(name)\n    raise AttributeError(name)"
    )
    module.asked.clear()
    assert find_class(module.__name__, "Nowhere") is None
    assert module.asked == []
    assert find_class("os", "system") is None
    assert find_class("os", "path.join") is None


def test_a_class_that_was_defined_anew_takes_the_place_of_the_old_one() -> None:
    module = shape_of_today(DATACLASS + "id: int")
    order = module.Order(id=1)
    encode(order, what="a test")
    module = shape_of_today(DATACLASS + "id: int")
    back = decode(encode(order, what="a test"), what="a test")
    assert type(back) is module.Order
    assert type(back) is not type(order)


def test_the_classes_of_an_annotation_are_found_through_its_wrappers() -> None:
    found = classes_in(dict[str, list[Point | None]])
    assert {Point, str} <= set(found)
    assert Point in classes_in(Model)
    assert Model in classes_in(tuple[Model, ...])
    assert classes_in("text") == ()
    assert classes_in(None) == ()


def test_a_hint_finds_a_local_class_in_a_process_that_never_stored_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import dataclasses, sys
            from kitaru._core.values import classes_in, decode, encode
            from kitaru._core.payload import seal

            def make():
                @dataclasses.dataclass
                class Local:
                    n: int
                return Local

            Local = make()
            if sys.argv[1] == "write":
                print(encode([Local(3)], what="a test").data.decode())
            else:
                payload = seal("json", sys.argv[1].encode())
                hints = classes_in(list[Local]) if sys.argv[2] == "hint" else ()
                print(decode(payload, what="a test", hints=hints))
            """
        )
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(script), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    written = run("write").stdout.strip()
    assert "script:make.<locals>.Local" in written
    assert run(written, "hint").stdout.strip() == "[make.<locals>.Local(n=3)]"
    assert "made inside a function" in run(written, "none").stderr


def test_importing_the_codec_and_storing_plain_values_imports_nothing_heavy() -> None:
    code = """
import sys
from kitaru._core.values import decode, encode
decode(encode({"a": (1, b"x")}, what=""), what="")
heavy = {"dataclasses", "inspect", "decimal", "uuid", "pathlib", "pydantic", "datetime", "zoneinfo"}
print(sorted((heavy | {"typing_extensions", "traceback", "ipaddress"}) & set(sys.modules)))
"""
    command = [sys.executable, "-S", "-c", code]
    path = str(Path(__file__).parent.parent / "src")
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"PYTHONPATH": path}
    )
    assert done.stdout.strip() == "[]"
