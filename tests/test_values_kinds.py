"""Every kind of value, filled with anything: equal, of the very type, and none of its code runs.

The classes here set off an alarm when code of theirs runs while it is armed: their
`__init__`, `__new__`, `__setattr__`, `__getattribute__`, validators, converters, properties.
"""

from __future__ import annotations

import array
import dataclasses
import enum
import functools
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar

import attrs
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.test_values import VALUES, quick, same

from kitaru._core.payload import seal
from kitaru._core.values import decode, encode
from kitaru.errors import KitaruValueError

T = TypeVar("T")
armed = False
few = settings(quick, max_examples=40)


class CodeRan(BaseException):
    """No `except Exception` of ours can hide it."""


def alarm() -> None:
    if armed:
        raise CodeRan


@contextmanager
def alarms() -> Iterator[None]:
    global armed
    armed = True
    try:
        yield
    finally:
        armed = False


def there_and_back(value: Any) -> Any:
    loaded = set(sys.modules)
    with alarms():
        payload = encode(value, what="a test")
        back = decode(payload, what="a test")
        assert encode(back, what="a test") == payload
    assert set(sys.modules) == loaded
    assert type(back) is type(value)
    return back


class Alarmed:
    """What no kind of class may have called."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> None:
        alarm()
        object.__setattr__(self, name, value)

    def __getattribute__(self, name: str) -> Any:
        alarm()
        return object.__getattribute__(self, name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise CodeRan

    def __deepcopy__(self, memo: Any) -> Any:
        raise CodeRan


@dataclasses.dataclass
class Plain(Alarmed):
    a: Any
    scale: dataclasses.InitVar[int] = 1
    b: Any = dataclasses.field(default_factory=list)
    made: str = dataclasses.field(init=False)

    def __post_init__(self, scale: int) -> None:
        alarm()
        self.made = "late"


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    a: Any
    b: Any = None

    def __post_init__(self) -> None:
        alarm()


@dataclasses.dataclass
class GenericBox(Generic[T]):
    item: T


@attrs.define
class Defined:
    a: Any
    _private: Any = attrs.field(default=3, converter=lambda value: (alarm(), value)[1])

    def __attrs_post_init__(self) -> None:
        alarm()


@attrs.frozen(cache_hash=True)
class FrozenHash:
    a: Any


@attrs.frozen(cache_hash=True, slots=False)
class FrozenHashInDict:
    a: Any


class Row(NamedTuple):
    a: Any
    b: Any = None


class Checked(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", populate_by_name=True)
    a: Any = pydantic.Field(alias="theA")
    b: Any = None
    _private: Any = pydantic.PrivateAttr(default=None)

    def model_post_init(self, context: Any) -> None:
        alarm()

    @pydantic.field_validator("a", "b", mode="before")
    @classmethod
    def check(cls, value: Any) -> Any:
        alarm()
        return value


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    name: str


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]
    total: int = 0


class Owner(pydantic.BaseModel):
    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]


class Raising(pydantic.BaseModel):
    """What is computed or excluded is no business of storing."""

    a: int = pydantic.Field(1, exclude=True)
    _unset: int
    _made: list[int] = pydantic.PrivateAttr(default_factory=list)

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def b(self) -> int:
        raise CodeRan

    @pydantic.model_serializer
    def serialize(self) -> dict[str, Any]:
        raise CodeRan


class Ints(pydantic.RootModel[dict[str, T]], Generic[T]):
    pass


@pydantic.dataclasses.dataclass(slots=True, frozen=True)
class Validated:
    a: int
    b: int = pydantic.Field(default=2, alias="B")


@dataclasses.dataclass(kw_only=True, slots=True, weakref_slot=True)
class Exploding:
    """Its default is never asked for: a record has the field."""

    a: int = dataclasses.field(default_factory=lambda: 1 // 0)


@dataclasses.dataclass
class Base:
    a: int


@dataclasses.dataclass(slots=True)
class Child(Base):
    b: int


class Tenfold(int, enum.Enum):
    ONE = 1

    def __new__(cls, value: int) -> Tenfold:
        alarm()
        made = int.__new__(cls, value)
        made._value_ = value * 10
        return made


@dataclasses.dataclass
class Declined(ValueError):
    code: int


class Access(enum.IntFlag):
    READ = 1
    WRITE = 4
    ALL = READ | WRITE


class Style(enum.Flag):
    BOLD = enum.auto()
    ITALIC = enum.auto()


class Level(enum.IntEnum):
    LOW = 1

    def __init__(self, value: int) -> None:
        alarm()


class Name(enum.StrEnum):
    ANN = "ann"


class Movie(TypedDict, total=False):
    title: str
    year: int


UserId = NewType("UserId", int)


@few
@given(VALUES, VALUES)
def test_dataclasses_hold_anything_and_come_back(a: Any, b: Any) -> None:
    back = there_and_back(Plain(a, 2, b))
    assert same([vars(back)[name] for name in ("a", "b", "made")], [a, b, "late"])
    frozen = there_and_back(Frozen(a, b))
    assert same([frozen.a, frozen.b], [a, b])


@few
@given(VALUES)
def test_attrs_classes_hold_anything_and_come_back(a: Any) -> None:
    back = there_and_back([Defined(a, a), FrozenHash(a), FrozenHashInDict(a)])
    assert [type(one) for one in back] == [Defined, FrozenHash, FrozenHashInDict]
    assert same([back[0].a, back[0]._private, back[1].a, back[2].a], [a] * 4)


@few
@given(VALUES, VALUES)
def test_named_tuples_hold_anything_and_come_back(a: Any, b: Any) -> None:
    assert same(tuple(there_and_back(Row(a, b))), (a, b))


@few
@given(VALUES, VALUES)
def test_models_hold_anything_and_come_back_with_what_is_private_and_extra(a: Any, b: Any) -> None:
    model = Checked.model_construct(_fields_set={"a"}, a=a)
    assert model.__pydantic_extra__ is not None
    model.__pydantic_extra__["more"] = b
    model._private = b
    back = there_and_back(model)
    assert same([back.a, back.b, back.model_extra, back._private], [a, None, {"more": b}, b])
    assert back.model_fields_set == {"a"}


@few
@given(st.integers(0, 2**70), st.integers(0, 3))
def test_flags_come_back_with_bits_that_have_no_name(bits: int, style: int) -> None:
    assert there_and_back(Access(bits)) == Access(bits)
    assert there_and_back(Style(style)) is Style(style)


ENDS = st.none() | st.integers() | st.tuples(st.integers())


@few
@given(st.builds(slice, ENDS, ENDS, ENDS))
def test_slices_come_back(value: slice) -> None:
    assert there_and_back(value) == value


@few
@given(
    st.sampled_from(["a+", r"(?P<n>\d)(?P=n)", "(?i)ä", "[^\n]", "", "a\ud800"]),
    st.sampled_from([0, re.I, re.A, re.M | re.S | re.X]),
)
def test_patterns_come_back(pattern: str, flags: int) -> None:
    for value in (re.compile(pattern, flags), re.compile(b"a+", flags & ~re.A)):
        assert there_and_back(value) == value


@few
@given(st.lists(st.integers(-128, 127)), st.lists(st.floats()))
def test_arrays_come_back(numbers: list[int], floats: list[float]) -> None:
    for value in (array.array("b", numbers), array.array("q", numbers), array.array("d", floats)):
        back = there_and_back(value)
        assert (back.typecode, back.tobytes()) == (value.typecode, value.tobytes())


@few
@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=3))
def test_namespaces_come_back(attributes: dict[str, Any]) -> None:
    back = there_and_back(SimpleNamespace(**attributes))
    assert same(vars(back), attributes)


@pytest.mark.parametrize(
    "value",
    [
        ...,
        Level.LOW,
        Name.ANN,
        {Level.LOW: Name.ANN},
        Movie(title="M", year=1931),
        UserId(3),
        Owner(pet=Dog(name="Rex")),
        Page[Cat](items=[Cat()]),
        Page[Page[int]](items=[Page[int](items=[1])]),
        GenericBox(1),
        Raising(),
        Ints[int]({"a": 1}),
        Validated(1, B=3),  # type: ignore[call-arg]
        Exploding(a=1),
        Child(1, 2),
        Tenfold.ONE,
        array.array("i"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_kind_comes_back_as_itself(value: Any) -> None:
    assert there_and_back(value) == value


def test_an_exception_that_is_a_dataclass_comes_back() -> None:
    back = there_and_back(Declined(3))
    assert (type(back), back.code, back.args) == (Declined, 3, (3,))


def test_a_generic_dataclass_comes_back_without_the_parameter_it_was_made_with() -> None:
    back = there_and_back(GenericBox[int](3))
    assert back == GenericBox(3)
    assert vars(back) == {"item": 3}


def test_attrs_objects_that_keep_their_hash_can_be_hashed_when_they_come_back() -> None:
    for value in (FrozenHash(1), FrozenHashInDict(1)):
        assert hash(value) == hash(there_and_back(value))
        assert there_and_back({value: 1}) == {value: 1}


def array_of_text() -> array.array[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.13 on
        return array.array("u", "ä")


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (re.compile("a" * 1001), "store its `.pattern`"),
        (array_of_text(), r"\.tolist\(\)"),
        (NotImplemented, "return None"),
        (functools.partial(len), "what it is called with"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_honest_encoding_says_what_to_do(value: Any, remedy: str) -> None:
    with pytest.raises(KitaruValueError, match=remedy) as caught:
        encode([value], what="a test")
    assert caught.value.path == "$[0]"


@pytest.mark.parametrize(
    "data",
    [
        '{"$kitaru":"slice","v":[1,2]}',
        '{"$kitaru":"slice"}',
        '{"$kitaru":"pattern","v":["(",32]}',
        '{"$kitaru":"pattern","v":["a",160]}',
        '{"$kitaru":"pattern","v":["a","I"]}',
        '{"$kitaru":"pattern","v":[1,0]}',
        '{"$kitaru":"pattern","v":["a",true]}',
        '{"$kitaru":"pattern","v":["' + "[a-z]" * 1000 + '",0]}',
        '{"$kitaru":"pattern","v":["a",99999999999999999999999999]}',
        '{"$kitaru":"namespace","v":[1]}',
        '{"$kitaru":"namespace","v":{"$kitaru":"dict","v":[[1,2]]}}',
        '{"$kitaru":"array","v":["b",1,"little","!"]}',
        '{"$kitaru":"array","v":["b",2,"little","AA=="]}',
        '{"$kitaru":"array","v":["u",4,"little",""]}',
        '{"$kitaru":"array","v":["q",8,"little","AA=="]}',
        '{"$kitaru":"ellipsis","v":"…"}',
        '{"$kitaru":"ellipsis","v":[]}',
    ],
)
def test_made_up_records_of_these_kinds_are_typed_errors(
    data: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KitaruValueError, match="malformed"):
        decode(seal("json", data.encode()), what="a test")
    assert capfd.readouterr().out == ""


def test_an_array_of_a_machine_of_the_other_byte_order_is_turned_round() -> None:
    other = "big" if sys.byteorder == "little" else "little"
    swapped = array.array("i", [1, 2])
    swapped.byteswap()
    data = encode(swapped, what="a test").data.replace(sys.byteorder.encode(), other.encode())
    assert decode(seal("json", data), what="a test") == array.array("i", [1, 2])


def test_a_parametrised_class_that_was_not_made_yet_says_where_to_name_it() -> None:
    data = encode(Page[int](items=[1]), what="a test").data.replace(b"Page[int]", b"Page[bytes]")
    with pytest.raises(KitaruValueError, match=r"name Page\[bytes\] in the annotation"):
        decode(seal("json", data), what="a test")
