"""The digest of one function's code: what counts in bytecode and what does not."""

from __future__ import annotations

import ast
import asyncio
import glob
import os
import subprocess
import sys
import sysconfig
from types import CodeType, FunctionType
from typing import Any

import pytest

from kitaru._engine.fingerprint import code_digest
from kitaru._engine.fingerprint.bytecode import read
from kitaru._engine.fingerprint.plain import plain


def function(source: str, name: str = "f") -> FunctionType:
    space: dict[str, Any] = {"__name__": "made"}
    exec(compile(source, "made", "exec", dont_inherit=True), space)
    found = space[name]
    assert isinstance(found, FunctionType)
    return found


DIFFERENT = {
    "a constant": ("return 1", "return 2"),
    "a constant's type": ("return 1", "return 1.0"),
    "zero's sign": ("return 0.0", "return -0.0"),
    "an operator": ("return a + 1", "return a - 1"),
    "a global's name": ("return x", "return y"),
    "an attribute's name": ("return a.x", "return a.y"),
    "a method's name": ("return a.x()", "return a.y()"),
    "a local's name": ("b = 1; return locals()", "c = 1; return locals()"),
    "a nested constant": ("return lambda: 1", "return lambda: 2"),
    "a keyword's name": ("return a(x=1)", "return a(y=1)"),
    "a member of a set": ("return a in {1, 2}", "return a in {1, 3}"),
    "a jump's target": (
        "while a:\n    if x: break\n    y()\n  return 1",
        "while a:\n    if x: continue\n    y()\n  return 1",
    ),
    "what an exception handler covers": (
        "x()\n  try: y()\n  except: z()",
        "try:\n    x()\n    y()\n  except: z()",
    ),
    "being a generator": ("return 1", "yield 1"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_code_that_behaves_differently_has_another_digest(name: str) -> None:
    one, two = (function(f"def f(a):\n  {body}") for body in DIFFERENT[name])

    assert code_digest(one) != code_digest(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("def f(a): pass", "def f(a, /): pass"),
        ("def f(a): pass", "def f(*a): pass"),
        ("def f(a): pass", "def f(*, a): pass"),
        ("def f(a): pass", "async def f(a): pass"),
        ("def f(a=1): pass", "def f(a=2): pass"),
        ("def f(*, a=1): pass", "def f(*, a=2): pass"),
        ("def f(a=[1]): pass", "def f(a=[2]): pass"),
    ],
)
def test_signatures_count(one: str, two: str) -> None:
    assert code_digest(function(one)) != code_digest(function(two))


def test_more_than_256_names_and_constants_are_told_apart() -> None:
    lines = "\n  ".join(f"a.n{i} = {i + 1000}" for i in range(400))
    source = f"def f(a):\n  {lines}\n"

    assert code_digest(function(source)) != code_digest(function(source.replace("1399", "1398")))
    assert code_digest(function(source)) != code_digest(function(source.replace("n399", "n398")))


def test_running_a_function_does_not_change_its_digest() -> None:
    fn = function("def f(a):\n  for i in range(a): x = i.real + len('a')\n  return a")
    before = code_digest(fn)

    for _ in range(100):
        fn(50)

    assert code_digest(fn) == before


def test_tracing_a_function_does_not_change_its_digest() -> None:
    fn = function("def f(a):\n  for i in range(a): x = i.real\n  return a")
    before = code_digest(fn)
    seen: list[str] = []

    def trace(frame: Any, event: str, arg: Any) -> Any:
        seen.append(event)
        return trace

    old = sys.gettrace()
    sys.settrace(trace)
    try:
        fn(5)
        during = code_digest(fn)
    finally:
        sys.settrace(old)

    assert "line" in seen
    assert (during, code_digest(fn)) == (before, before)


def nested(code: CodeType) -> list[CodeType]:
    found = []
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found += [constant, *nested(constant)]
    return found


def standard_library() -> list[str]:
    folder = sysconfig.get_path("stdlib")
    names = ("argparse", "ast", "dataclasses", "inspect", "json/*", "logging/*", "textwrap")
    return [path for name in names for path in glob.glob(os.path.join(folder, f"{name}.py"))]


def test_the_standard_library_written_out_on_single_lines_keeps_its_digests() -> None:
    same = different = 0
    for path in standard_library():
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
        with open(path, "rb") as file:
            original = compile(file.read(), path, "exec", dont_inherit=True)
        rewritten = compile(ast.unparse(tree), path, "exec", dont_inherit=True)
        for one, two in zip(nested(original), nested(rewritten), strict=True):
            same += read(one).digest == read(two).digest
            different += read(one).digest != read(two).digest

    # The compiler turns some conditions round when they span lines; such a
    # function counts as changed, which costs a run and is never wrong.
    assert same > 500
    assert different <= same * 0.02


def test_reading_code_loads_neither_dis_nor_inspect_nor_ast() -> None:
    program = (
        "import sys; from kitaru._engine.fingerprint import fingerprint, code_digest\n"
        "def f(a): return a + 1\n"
        "fingerprint(f, root=None, what='f'), code_digest(f)\n"
        "print(sorted({'dis', 'inspect', 'ast'} & set(sys.modules)))"
    )

    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


@pytest.mark.parametrize(
    "value",
    [[1], {1: 2}, {1}, bytearray(b"a"), object(), lambda: 1, ([1],), frozenset({(object(),)})],
)
def test_what_is_not_immutable_is_not_plain(value: object) -> None:
    assert plain(value) is None


def test_plain_values_that_differ_encode_differently() -> None:
    values: list[object] = [None, ..., True, False, 0, 1, -1, 255, 256, 10**5000, 0.0, -0.0, 1.0]
    values += [float("inf"), 1j, "", "1", b"1", "\ud800", (), (1,), ((1,),), ("1",), frozenset()]
    values += [frozenset({1}), frozenset({(1,)}), range(3), range(4), ("a", "b"), ("ab", "")]

    assert len({plain(value) for value in values}) == len(values)


def test_equal_frozensets_and_nans_encode_alike() -> None:
    words = [f"word {i}" for i in range(100)]

    assert plain(frozenset(words)) == plain(frozenset(reversed(words)))
    assert plain(float("nan")) == plain(-float("nan"))


def test_the_function_called_by_a_coroutine_is_not_part_of_its_code_digest() -> None:
    one = function("def g(): return 1\nasync def f(): return g()")
    two = function("def g(): return 2\nasync def f(): return g()")

    assert code_digest(one) == code_digest(two)
    assert asyncio.run(one()) != asyncio.run(two())
