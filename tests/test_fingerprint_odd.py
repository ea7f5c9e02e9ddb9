"""Functions that are no plain functions, names that change, and code that must not run."""

from __future__ import annotations

import enum
import functools
import gc
import math
import operator
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kitaru._engine.fingerprint import Fingerprint, code_digest, fingerprint

ROOT = str(Path(__file__).parent)


def take(fn: Any) -> Fingerprint:
    return fingerprint(fn, root=ROOT, what="it")


RAN: list[str] = []


class Hostile(type):
    def __getattribute__(cls, name: str) -> Any:
        RAN.append(f"class {name}")
        return super().__getattribute__(name)


class Trap(metaclass=Hostile):
    """Tells when it is asked anything."""

    def __getattribute__(self, name: str) -> Any:
        RAN.append(name)
        return super().__getattribute__(name)

    def __hash__(self) -> int:
        RAN.append("hash")
        return 1

    def __eq__(self, other: object) -> bool:
        RAN.append("eq")
        return self is other

    def __repr__(self) -> str:
        RAN.append("repr")
        return "trap"

    def __iter__(self) -> Iterator[int]:
        RAN.append("iter")
        return iter(())

    def __bool__(self) -> bool:
        RAN.append("bool")
        return False

    def __call__(self) -> int:
        RAN.append("call")
        return 1

    @property
    def func(self) -> None:
        RAN.append("func")


TRAP = object.__new__(Trap)
TRAPS = [TRAP, {"trap": TRAP}]


class LyingDict(dict[str, int]):
    def __iter__(self) -> Any:
        RAN.append("dict iter")
        return super().__iter__()

    def items(self) -> Any:
        RAN.append("dict items")
        return super().items()


class LyingText(str):
    def __str__(self) -> str:
        RAN.append("str")
        return "lie"

    def __eq__(self, other: object) -> bool:
        RAN.append("str eq")
        return True

    __hash__ = str.__hash__


class LyingNumber(int):
    def __index__(self) -> int:
        RAN.append("index")
        return 0


class Level(enum.IntEnum):
    LOW = 1


class WithCall:
    def __call__(self) -> int:
        return helper()


class Slotted:
    __slots__ = ("a",)


def helper() -> int:
    return 1


def uses_traps(trap: object = TRAP) -> Any:
    return TRAP, TRAPS, trap, LYING, Trap, TEXT, NUMBER


LYING = LyingDict(a=1)
TEXT, NUMBER = LyingText("a"), LyingNumber(1)


def generator() -> Iterator[int]:
    yield helper()


async def coroutine() -> int:
    return helper()


@functools.wraps(helper)
def wrapper() -> int:
    return helper()


@functools.lru_cache
def cached() -> int:
    return helper()


def recursive_list() -> list[Any]:
    return RECURSIVE


RECURSIVE: list[Any] = []
RECURSIVE.append(RECURSIVE)


def made_without_source(source: str) -> Any:
    space: dict[str, Any] = {}
    exec(source, space)
    return space["f"]


def deep_partial() -> Any:
    fn: Any = helper
    for _ in range(200):
        fn = functools.partial(fn)
    return fn


def nested(kind: Callable[[list[Any]], Any], levels: int) -> Any:
    """A container that holds the level below twice: 2**levels items if read naively."""
    value = kind([1])
    for _ in range(levels):
        value = kind([value, value])
    return value


def uses_nested(a: Any = nested(tuple, 48), b: Any = nested(list, 48)) -> Any:  # noqa: B008
    return a, b, NESTED


NESTED = nested(tuple, 48)


def unbound_cell() -> Callable[[], int]:
    def f() -> int:
        return late

    if ROOT == "":
        late = 1
    return f


ODD: dict[str, Any] = {
    "a builtin": len,
    "a C function": math.sin,
    "a C method": "a".upper,
    "a method descriptor": str.upper,
    "a slot wrapper": int.__add__,
    "a C callable object": operator.itemgetter(1),
    "a class": WithCall,
    "a builtin class": dict,
    "an instance with __call__": WithCall(),
    "an instance with slots": Slotted(),
    "a bound method": WithCall().__call__,
    "a partial": functools.partial(helper),
    "a partial of partials of partials": deep_partial(),
    "a wrapper": wrapper,
    "a cached function": cached,
    "an async function": coroutine,
    "a generator function": generator,
    "a lambda": lambda: helper(),
    "a function without a source": made_without_source("x = [1]\ndef f(): return x"),
    "a cell without a value": unbound_cell(),
    "a list that contains itself": recursive_list,
    "containers that hold the same thing twice": uses_nested,
    "an enum member": Level.LOW,
    "a module": sys,
    "None": None,
    "a trap": TRAP,
    "a trap's class": Trap,
    "traps everywhere": uses_traps,
}


@pytest.mark.parametrize("name", ODD)
def test_any_callable_has_a_fingerprint_and_a_code_digest(name: str) -> None:
    taken = take(ODD[name])

    assert len(taken.digest) == 16
    assert len(code_digest(ODD[name])) == 16
    assert taken == take(ODD[name])
    assert not [line for line in taken.unseen if "cannot be read" in line]


@pytest.mark.parametrize(
    "name",
    [
        "an instance with __call__",
        "a bound method",
        "a partial",
        "a wrapper",
        "a cached function",
        "an async function",
        "a generator function",
        "a lambda",
        "a class",
        "a partial of partials of partials",
    ],
)
def test_what_a_callable_calls_in_the_end_is_covered(name: str) -> None:
    assert f"{__name__.rpartition('.')[2]}.helper" in take(ODD[name]).parts


@pytest.mark.parametrize("name", ["a trap", "a trap's class", "traps everywhere"])
def test_no_code_of_the_user_runs(name: str) -> None:
    taken = ODD[name]
    RAN.clear()

    take(taken)
    code_digest(taken)

    assert RAN == []


def test_a_value_without_a_source_is_listed() -> None:
    taken = take(ODD["a function without a source"])

    assert [line for line in taken.unseen if "x has no source" in line]


def test_different_builtins_have_different_fingerprints() -> None:
    fns = [len, math.sin, math.cos, "a".upper, str.upper, str.lower, dict, list]

    assert len({take(fn).digest for fn in fns}) == len(fns)
    assert len({code_digest(fn) for fn in fns}) == len(fns)


def test_partials_differ_by_what_they_bind() -> None:
    fns: list[Any] = [functools.partial(helper, *args) for args in ((), (1,), (2,), ([1],))]
    fns.append(functools.partial(helper, x=1))  # type: ignore[call-arg]

    assert len({code_digest(fn) for fn in fns}) == len(fns)


@pytest.fixture
def module() -> Iterator[ModuleType]:
    made = ModuleType("made_for_this_test")
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


def define(module: ModuleType, source: str) -> None:
    exec(compile(source, "made", "exec", dont_inherit=True), module.__dict__)


def test_a_helper_defined_anew_is_noticed(module: ModuleType) -> None:
    define(module, "def g(): return 1\ndef f(): return g()")
    before = take(module.f)

    define(module, "def g(): return 2")

    assert take(module.f).digest != before.digest


def test_a_helper_whose_code_is_replaced_in_place_is_noticed(module: ModuleType) -> None:
    define(module, "def g(): return 1\ndef f(): return g()\ndef h(): return 2")
    before = take(module.f)

    module.g.__code__ = module.h.__code__

    assert take(module.f).digest != before.digest


def test_a_captured_value_that_changes_is_noticed(module: ModuleType) -> None:
    define(
        module,
        "def make():\n  n = 1\n  def f(): return n\n"
        "  def put(v):\n    nonlocal n\n    n = v\n  return f, put\nf, put = make()",
    )
    before = take(module.f)

    module.put(2)

    assert take(module.f).digest != before.digest


def test_an_unchanged_function_is_not_read_again(module: ModuleType) -> None:
    define(module, "def g(): return 1\ndef f(): return g()")

    assert take(module.f) is take(module.f)


def test_a_closure_that_is_gone_is_not_kept() -> None:
    def make() -> Callable[[int], Any]:
        items: list[int] = []

        def f(n: int) -> Any:
            return f if n else (items, helper())

        return f

    fn = make()
    take(fn)
    gone = weakref.ref(fn)

    del fn
    gc.collect()

    assert gone() is None


def test_functions_of_an_exec_are_not_kept() -> None:
    fn = made_without_source("def g(): return f\ndef f(): return g()")
    take(fn)
    gone = weakref.ref(fn)

    del fn
    gc.collect()

    assert gone() is None


def test_the_order_in_which_functions_are_met_does_not_count(module: ModuleType) -> None:
    define(module, "def a(): return b, c\ndef b(): return c, a\ndef c(): return a, b")

    parts = [take(getattr(module, name)).parts for name in "abc"]

    assert parts[0] == parts[1] == parts[2]


def test_the_checkpoint_inside_a_checkpoint_counts_by_its_function(module: ModuleType) -> None:
    define(
        module,
        "class Ck:\n"
        "  __slots__ = ('func', '__kitaru_id__')\n"
        "  def __init__(self, f): self.func = f\n"
        "@Ck\ndef inner(): return 1\n"
        "def f(): return inner()",
    )

    assert "made_for_this_test.inner" in take(module.f).parts
