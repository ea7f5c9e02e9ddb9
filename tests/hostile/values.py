"""The first paragraph of the list of hostile input: values of the standard library and of classes.

``KEPT`` comes back through every door as it went in. ``OPAQUE`` may be an argument of a
checkpoint, where it counts by its type, and is refused everywhere else. ``READ_ONCE`` and
``REFUSED`` are refused at every door. Each entry makes its value anew.
"""

from __future__ import annotations

import ast
import asyncio
import contextvars
import functools
import io
import ipaddress
import itertools
import operator
import re
import socket
import string
import sys
import threading
import time
import types
import weakref
from array import array
from collections import ChainMap, Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from datetime import time as clock
from decimal import Decimal
from enum import Enum, Flag, IntEnum, IntFlag, StrEnum
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel, field_validator

Make = Callable[[], Any]
T = TypeVar("T")


class Unwanted(Exception):
    """Raised by code of a value that nobody had to run."""


def nested(depth: int, wrap: Callable[[Any], Any], core: Any = 1) -> Any:
    for _ in range(depth):
        core = wrap(core)
    return core


def endless_list() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


def endless_dict() -> dict[str, Any]:
    value: dict[str, Any] = {"a": 1}
    value["self"] = value
    return value


def twice() -> list[Any]:
    part = {"a": [1]}
    return [part, part, {"again": part}]


def bomb() -> Any:
    """Fifty lists, each of the one before twice: tiny in memory, 2 ** 50 items on paper."""
    return nested(50, lambda inner: [inner, inner])


# --- classes -----------------------------------------------------------------------------


@dataclass
class Point:
    x: int
    y: float = -0.0


@dataclass(frozen=True)
class Frozen:
    at: datetime
    parts: tuple[Point, ...] = ()


@dataclass(slots=True)
class Slotted:
    name: str
    rest: dict[str, Any] = field(default_factory=dict)


@dataclass
class WithInitVar:
    kept: int
    scale: InitVar[int] = 2

    def __post_init__(self, scale: int) -> None:
        self.scaled = self.kept * scale


def _raise(*_: Any, **__: Any) -> Any:
    raise Unwanted("nobody had to call this")


@dataclass
class DefaultsThatRaise:
    x: int
    y: list[int] = field(default_factory=_raise)


@dataclass
class PostInitThatRaises:
    x: int

    def __post_init__(self) -> None:
        if self.x != 1:
            raise Unwanted("x")


@dataclass(eq=False, repr=False)
class Liar:
    """Everything that it can say about itself raises."""

    x: int

    __eq__ = __hash__ = __repr__ = __reduce__ = __reduce_ex__ = _raise  # type: ignore[assignment]
    __bool__ = __len__ = __iter__ = __getstate__ = __copy__ = __deepcopy__ = _raise
    __str__ = __format__ = __contains__ = __getattr__ = __setstate__ = _raise  # type: ignore[assignment]


def _sleep(*_: Any, **__: Any) -> Any:
    time.sleep(60)


@dataclass(eq=False, repr=False)
class Sleeper:
    """Everything that it can say about itself takes a minute."""

    x: int

    __eq__ = __hash__ = __repr__ = __reduce__ = __bool__ = __len__ = _sleep  # type: ignore[assignment]


class RaisingMeta(type):
    __eq__ = __hash__ = __repr__ = __instancecheck__ = __subclasscheck__ = _raise  # type: ignore[assignment]


class OfRaisingMeta(metaclass=RaisingMeta):
    pass


class Chameleon:
    """Says that it is an int."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return int


class Lazy:
    """Says that it is a function, as proxies do."""

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return types.FunctionType


class Closed:
    """No attribute of it can be read or set."""

    __getattribute__ = __setattr__ = __delattr__ = _raise  # type: ignore[assignment]


class Ordinary:
    def __init__(self) -> None:
        self.x = 1


class OrdinarySlots:
    __slots__ = ("x",)


@dataclass
class Box(Generic[T]):
    inside: T


@dataclass
class Child(Point):
    z: int = 0


def lacking() -> Point:
    value = Point(1)
    del value.x
    return value


def enriched() -> Point:
    value = Point(1)
    value.extra = "kept"  # type: ignore[attr-defined]
    return value


def endless_point() -> Point:
    value = Point(1)
    value.x = value  # type: ignore[assignment]
    return value


def _local() -> type:
    @dataclass
    class Local:
        x: int

    return Local


LOCAL = _local()
UNREACHABLE = namedtuple("Elsewhere", "a b")


class Pair(NamedTuple):
    left: int
    right: Any = None


class Labelled(Pair):
    """A named tuple with attributes of its own."""


def labelled() -> Labelled:
    value = Labelled(1)
    value.label = "kept"
    return value


class Typed(TypedDict, total=False):
    name: str
    size: int


UserId = NewType("UserId", int)


class Colour(Enum):
    RED = "red"
    CRIMSON = "red"  # noqa: PIE796
    BOX = ["not", "hashable"]  # noqa: RUF012


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Kind(StrEnum):
    A = "a"


class Bits(IntFlag):
    READ = 1
    WRITE = 2
    BOTH = 3


class Marks(Flag):
    X = 1
    Y = 4


class LyingEnum(Enum):
    ONE = 1

    __eq__ = __hash__ = _raise  # type: ignore[assignment]


class Model(BaseModel):
    name: str
    size: int = 3


class Picky(BaseModel):
    """Its validators raise for everything, today."""

    name: str

    @field_validator("name", mode="before")
    @classmethod
    def _refuse(cls, value: Any) -> Any:
        raise Unwanted("no validator had to run")


class Aliased(BaseModel):
    first_name: str = Field(alias="firstName")


class Private(BaseModel):
    x: int
    _hidden: list[int] = PrivateAttr(default_factory=list)


def private() -> Private:
    value = Private(x=1)
    value._hidden.append(7)
    return value


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: int


class Crate(BaseModel, Generic[T]):
    inside: T


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"


class Home(BaseModel):
    pets: list[Cat | Dog] = Field(default_factory=list)


class Names(RootModel[list[str]]):
    pass


@attrs.define
class Wheel:
    size: int
    spokes: list[int] = attrs.field(factory=list)


@attrs.frozen(slots=False)
class Axle:
    wheels: tuple[Wheel, ...]


class NeedsTwo(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")
        self.one = one


class SubStr(str):
    pass


class SubInt(int):
    pass


class SubFloat(float):
    pass


class SubDict(dict[str, int]):
    pass


class SubList(list[int]):
    pass


class SubTuple(tuple[int, ...]):
    pass


class SubSet(set[int]):
    pass


class SubBytes(bytes):
    pass


class SubDatetime(datetime):
    pass


class SubUUID(UUID):
    pass


class SubDecimal(Decimal):
    pass


class Zone(tzinfo):
    def utcoffset(self, _: Any) -> timedelta:
        return timedelta(hours=1)

    def dst(self, _: Any) -> timedelta:
        return timedelta(0)


def counting() -> Iterator[int]:
    yield 1


async def promised() -> int:
    return 1


async def counting_async() -> Any:
    yield 1


class Awaited:
    def __await__(self) -> Any:
        yield


def coroutine() -> Any:
    made = promised()
    weakref.finalize(made, lambda: None)
    made.close()
    return made


SOCKET = socket.socket()
SOCKET.close()


KEPT: dict[str, Make] = {
    # plain
    "None": lambda: None,
    "False": lambda: False,
    "True": lambda: True,
    "0": lambda: 0,
    "empty text": lambda: "",
    "[]": list,
    "{}": dict,
    "()": lambda: (),
    "empty set": set,
    "empty frozenset": frozenset,
    "empty bytes": lambda: b"",
    # numbers
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "-inf": lambda: float("-inf"),
    "-0.0": lambda: -0.0,
    "0.1": lambda: 0.1,
    "the smallest float": lambda: 5e-324,
    "the largest float": lambda: sys.float_info.max,
    "1.0 is no 1": lambda: [1, 1.0, True],
    "2 ** 53 + 1": lambda: 2**53 + 1,
    "2 ** 63": lambda: 2**63,
    "-2 ** 63": lambda: -(2**63),
    "-2 ** 63 - 1": lambda: -(2**63) - 1,
    "2 ** 64": lambda: 2**64,
    "5,000 digits": lambda: 10**5000 - 1,
    "-5,000 digits": lambda: -(10**5000),
    "complex": lambda: complex(-0.0, float("nan")),
    # text
    "lone high surrogate": lambda: "\ud800",
    "lone low surrogate": lambda: "a\udfffb",
    "two surrogates that are no pair": lambda: "\ud83d" + "\ude00",
    "surrogate in a key": lambda: {"\ud800": "\udc00"},
    "NUL": lambda: "a\0b",
    "BOM": lambda: "\ufeffa",
    "right-to-left override": lambda: "invoice\u202efdp.exe",
    "10,000 combining marks": lambda: "e" + "\u0301" * 10_000,
    "line separators": lambda: "a\u2028b\u2029c\x85d\x0be",
    "control characters": lambda: "".join(map(chr, range(32))) + "\x7f\x9b31m",
    "ANSI escapes": lambda: "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "all of Latin-1": lambda: "".join(map(chr, range(256))),
    "emoji with joiners": lambda: "👩‍👩‍👧‍👦" * 3,
    "denormalised": lambda: "cafe\u0301 café",
    "text of our tag": lambda: '{"$kitaru":"tuple","v":[1]}',
    # bytes
    "bytes of every value": lambda: bytes(range(256)),
    "bytearray": lambda: bytearray(range(256)),
    # keys
    "integer keys": lambda: {1: "a", -1: "b", 2**70: "c"},
    "1 and '1' as keys": lambda: {1: "a", "1": "b"},
    "mixed keys": lambda: {None: 1, True: 2, 1.5: 3, "x": 4, b"y": 5, (1, "z"): 6},
    "nan as a key": lambda: {float("nan"): 1},
    "frozenset as a key": lambda: {frozenset({1, 2}): 1},
    "dangerous keys": lambda: {
        "__proto__": 1,
        "__class__": 2,
        "$ref": "#/a",
        "constructor": 3,
        "": 4,
        "__dict__": 5,
    },
    "our tag as a key": lambda: {"$kitaru": "tuple", "v": [1]},
    "our tag as the only key": lambda: {"$kitaru": None},
    "our tag inside our tag": lambda: {"$kitaru": {"$kitaru": {"v": {"$kitaru": 1}}}},
    "tags of ours, each": lambda: [
        {"$kitaru": tag, "v": [], "of": "builtins:int", "shape": ""}
        for tag in ("tuple", "set", "dict", "dataclass", "exception", "enum", "int", "preview")
    ],
    "order of keys": lambda: {"b": 1, "a": 2, "c": 0},
    "enum as a key": lambda: {Level.LOW: 1, Kind.A: 2},
    # containers
    "tuple": lambda: (1, (2, (3,)), []),
    "a set of mixed types": lambda: {1, "1", None, 2.5, b"1", (1,)},
    "frozenset": lambda: frozenset({frozenset(), frozenset({1})}),
    "deque": lambda: deque([1, 2, 3]),
    "deque with a length": lambda: deque([1, 2, 3], maxlen=2),
    "OrderedDict": lambda: OrderedDict(b=1, a=2),
    "defaultdict": lambda: defaultdict(list, {"a": [1]}),
    "defaultdict without": lambda: defaultdict(None, {"a": 1}),
    "Counter": lambda: Counter("abracadabra"),
    "named tuple": lambda: Pair(1, (2,)),
    "named tuple with attributes": labelled,
    "named tuple made in a function": lambda: UNREACHABLE(1, 2),
    "nested 50 deep": lambda: nested(50, lambda inner: [inner]),
    "nested 50 deep, dicts": lambda: nested(50, lambda inner: {"a": inner}),
    "nested 45 deep, tuples": lambda: nested(45, lambda inner: (inner,)),
    "the same object twice": twice,
    # classes
    "dataclass": lambda: Point(1),
    "frozen dataclass": lambda: Frozen(datetime(2020, 1, 1, tzinfo=UTC), (Point(1), Point(2))),
    "dataclass with slots": lambda: Slotted("a", {"b": Slotted("c")}),
    "dataclass with InitVar": lambda: WithInitVar(3, 4),
    "dataclass with defaults that raise": lambda: DefaultsThatRaise(1, [2]),
    "dataclass whose __post_init__ raises": lambda: PostInitThatRaises(1),
    "dataclass that lacks a field": lacking,
    "dataclass with one attribute more": enriched,
    "dataclass of a function": lambda: LOCAL(1),
    "generic dataclass": lambda: Box[int](1),
    "derived dataclass": lambda: Child(1, 2.0, 3),
    "dataclass that raises when asked": lambda: Liar(1),
    "dataclass that sleeps when asked": lambda: Sleeper(1),
    "typed dict": lambda: Typed(name="a"),
    "new type": lambda: UserId(3),
    "enum": lambda: Colour.RED,
    "enum by its alias": lambda: Colour.CRIMSON,
    "enum whose value cannot be hashed": lambda: Colour.BOX,
    "IntEnum": lambda: Level.HIGH,
    "StrEnum": lambda: Kind.A,
    "IntFlag": lambda: Bits.READ | Bits.WRITE,
    "IntFlag of none": lambda: Bits(0),
    "Flag": lambda: Marks.X | Marks.Y,
    "enum that raises when asked": lambda: LyingEnum.ONE,
    "model": lambda: Model(name="a"),
    "model with fields set": lambda: Model(name="a", size=3),
    "model whose validators raise": lambda: Picky.model_construct(name="a"),
    "model that was never valid": lambda: Model.model_construct(name=3, size="x"),  # type: ignore[arg-type]
    "model with aliases": lambda: Aliased(firstName="Ada"),
    "model with private attributes": private,
    "model with extras": lambda: Open(x=1, y=[2], z=None),  # type: ignore[call-arg]
    "generic model": lambda: Crate[int](inside=1),
    "generic model, not parametrised": lambda: Crate(inside=(1,)),
    "model of a discriminated union": lambda: Home(pets=[Cat(lives=1), Dog()]),
    "root model": lambda: Names(["a"]),
    "attrs": lambda: Wheel(3, [1]),
    "frozen attrs": lambda: Axle((Wheel(1), Wheel(2))),
    # times
    "naive datetime": lambda: datetime(2020, 2, 29, 1, 2, 3, 4),
    "aware datetime": lambda: datetime(2020, 1, 1, tzinfo=UTC),
    "datetime of a zone": lambda: datetime(2020, 1, 1, tzinfo=ZoneInfo("UTC")),
    "datetime with an odd offset": lambda: datetime(
        2020, 1, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-7, seconds=5, microseconds=6))
    ),
    "datetime with a named offset": lambda: datetime(
        2020, 1, 1, tzinfo=timezone(timedelta(hours=1), "CET")
    ),
    "fold": lambda: datetime(2020, 10, 25, 2, 30, fold=1),
    "year 1": lambda: datetime(1, 1, 1),
    "year 9999": lambda: datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    "date": lambda: date(1, 1, 1),
    "time": lambda: clock(23, 59, 59, 999999, fold=1),
    "aware time": lambda: clock(1, tzinfo=UTC),
    "timedelta": lambda: timedelta(-1, 2, 3),
    "the longest timedelta": lambda: timedelta.max,
    "timezone": lambda: timezone(timedelta(hours=2)),
    # more leaves
    "Decimal NaN": lambda: Decimal("NaN"),
    "Decimal sNaN": lambda: Decimal("-sNaN123"),
    "Decimal 1E+400": lambda: Decimal("1E+400"),
    "Decimal -0.00": lambda: Decimal("-0.00"),
    "Decimal Infinity": lambda: Decimal("-Infinity"),
    "UUID": lambda: UUID(int=2**128 - 1),
    "Path": lambda: Path("/a/../b c/\udcff"),
    "PurePosixPath": lambda: PurePosixPath("a"),
    "PureWindowsPath": lambda: PureWindowsPath("C:\\x"),
    "IPv4Address": lambda: ipaddress.ip_address("10.0.0.1"),
    "IPv6Network": lambda: ipaddress.ip_network("2001:db8::/32"),
    "IPv4Interface": lambda: ipaddress.ip_interface("10.0.0.1/8"),
    "Fraction": lambda: Fraction(10**5000, 3),
    "range": lambda: range(10, -5, -3),
    "enormous range": lambda: range(0, 10**30, 7),
    "Ellipsis": lambda: ...,
    "SimpleNamespace": lambda: types.SimpleNamespace(a=1),
    "array": lambda: array("i", [1]),
    "slice": lambda: slice(1, 2),
    "pattern": lambda: re.compile("a"),
    # exceptions
    "exception": lambda: ValueError("a", 1, None),
    "exception whose __init__ needs more": lambda: NeedsTwo(1, 2),
    "exception group": lambda: ExceptionGroup("many", [ValueError(1), KeyError("k")]),
    "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why"),
    "OSError": lambda: FileNotFoundError(2, "No such file", "/x"),
}

OPAQUE: dict[str, Make] = {
    "lock": threading.Lock,
    "condition": threading.Condition,
    "event": threading.Event,
    "thread": lambda: threading.Thread(target=print),
    "queue": lambda: __import__("queue").Queue(),
    "socket": lambda: SOCKET,
    "object": object,
    "NotImplemented": lambda: NotImplemented,
    "ordinary object": Ordinary,
    "open file": lambda: io.StringIO("a"),
    "open file of bytes": lambda: io.BytesIO(b"a"),
    "ordinary object with slots": OrdinarySlots,
    "object that says it is an int": Chameleon,
    "object without attributes": lambda: object.__new__(Closed),
    "weak reference": lambda: weakref.ref(Ordinary),
    "lazy proxy": Lazy,
    "context variable": lambda: contextvars.ContextVar("x"),
    "string.Template": lambda: string.Template("$a"),
    "asyncio.Event": asyncio.Event,
    "str subclass": lambda: SubStr("a"),
    "int subclass": lambda: SubInt(1),
    "float subclass": lambda: SubFloat(1),
    "dict subclass": lambda: SubDict(a=1),
    "list subclass": lambda: SubList([1]),
    "tuple subclass": lambda: SubTuple([1]),
    "set subclass": lambda: SubSet([1]),
    "bytes subclass": lambda: SubBytes(b"a"),
    "datetime subclass": lambda: SubDatetime(2020, 1, 1),
    "UUID subclass": lambda: SubUUID(int=1),
    "Decimal subclass": lambda: SubDecimal(1),
    "datetime of a zone of one's own": lambda: datetime(2020, 1, 1, tzinfo=Zone()),
    "UserDict": lambda: UserDict(a=1),
    "ChainMap": lambda: ChainMap({"a": 1}),
    "mappingproxy": lambda: types.MappingProxyType({"a": 1}),
    "defaultdict of a function": lambda: defaultdict(lambda: 1),
    "memoryview": lambda: memoryview(b"a"),
    "keys of a dict": lambda: {"a": 1}.keys(),
    "syntax tree": lambda: ast.parse("1"),
    "awaitable": Awaited,
    "a list with a lock": lambda: [1, {"deep": (threading.Lock(),)}],
    "a dict with a lock as a key": lambda: {threading.Lock(): 1},
    "two classes of one name": lambda: [LOCAL(1), {"other": _local()(2)}],
    "a dataclass with a lock": lambda: Slotted("a", {"lock": threading.Lock()}),
    # code: as an argument it counts by what it does
    "module": lambda: string,
    "class": lambda: Point,
    "lambda": lambda: lambda: 1,
    "function": lambda: counting,
    "builtin function": lambda: len,
    "method": lambda: Ordinary().__init__,
    "method of a builtin": lambda: [].append,
    "partial": lambda: functools.partial(int, base=2),
    "itemgetter": lambda: operator.itemgetter(1),
    "code": lambda: counting.__code__,
    "generic alias": lambda: list[int],
}

READ_ONCE: dict[str, Make] = {
    "dead weak proxy": lambda: weakref.proxy(Ordinary()),
    "generator": lambda: counting(),
    "coroutine": coroutine,
    "async generator": lambda: counting_async(),
    "iterator of a list": lambda: iter([1]),
    "map": lambda: map(str, [1]),
    "zip": lambda: zip([1], [2], strict=True),
    "enumerate": lambda: enumerate([1]),
    "itertools.count": lambda: itertools.count(),
    "a generator in a list": lambda: [1, (counting(),)],
}

REFUSED: dict[str, Make] = {
    "object of a raising metaclass": OfRaisingMeta,
    "nested 100,000 deep": lambda: nested(100_000, lambda inner: [inner]),
    "nested 100,000 deep, dicts": lambda: nested(100_000, lambda inner: {"a": inner}),
    "nested 100,000 deep, tuples": lambda: nested(100_000, lambda inner: (inner,)),
    "nested 10,000 deep, dataclasses": lambda: nested(10_000, Box),
    "nested 101 deep": lambda: nested(101, lambda inner: [inner]),
    "list inside itself": endless_list,
    "dict inside itself": endless_dict,
    "dataclass inside itself": endless_point,
}

HUGE: dict[str, Make] = {
    "two to the power of fifty": bomb,
    "text of 64 MiB": lambda: "x" * (64 * 2**20),
    "text of 64 MiB and accents": lambda: "é" * (33 * 2**20),
    "bytes of 64 MiB": lambda: bytes(64 * 2**20),
    "an int of 64 MiB": lambda: 1 << (8 * 64 * 2**20),
}

SLOW = frozenset({"two to the power of fifty"})
"""Refused once what was written reaches the limit: ten seconds of work for it."""

LARGE: dict[str, Make] = {
    "a million items": lambda: list(range(1_000_000)),
    "a million texts": lambda: [str(number) for number in range(1_000_000)],
    "a million keys": lambda: dict.fromkeys(range(1_000_000)),
    "text of 63 MiB": lambda: "x" * (63 * 2**20),
    "bytes of 32 MiB": lambda: bytes(range(256)) * (32 * 4096),
}


_PLAIN = """None|False|True|0|empty text|[]|{}|-0.0|0.1|the smallest float|the largest float
1.0 is no 1
2 ** 53 + 1|2 ** 63|-2 ** 63|-2 ** 63 - 1|2 ** 64|lone high surrogate|lone low surrogate
surrogate in a key|NUL|BOM|right-to-left override|10,000 combining marks|line separators
control characters|ANSI escapes|all of Latin-1|emoji with joiners|denormalised|text of our tag
dangerous keys|our tag as a key|our tag as the only key|our tag inside our tag|tags of ours, each
order of keys|nested 50 deep|nested 50 deep, dicts|the same object twice|typed dict|new type"""

METADATA = frozenset(_PLAIN.replace("\n", "|").split("|"))
"""Those of ``KEPT`` that are plain JSON, which is all that metadata takes."""
