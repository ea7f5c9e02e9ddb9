"""Rules of the house that a reader cannot see at a glance, held by reading the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import kitaru
from kitaru._store import protocol

SOURCE = Path(kitaru.__file__).parent

CLOCKS = {
    "time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "sleep"},
    "os": {"urandom"},
    "random": {"random", "Random", "SystemRandom", "randrange", "choice", "shuffle"},
    "uuid": {"uuid1", "uuid4"},
    "secrets": {"token_hex", "token_bytes", "token_urlsafe"},
    "datetime": {"now", "utcnow", "today"},
}


ALLOWED = {
    "env.py",
}


def _modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE).as_posix(), ast.parse(path.read_text())


def test_only_the_environment_touches_clocks_and_randomness() -> None:
    found = [
        f"{name}:{node.lineno} {node.func.value.id}.{node.func.attr}"
        for name, tree in _modules()
        if name not in ALLOWED
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.attr in CLOCKS.get(node.func.value.id.lstrip("_"), ())
    ]
    assert found == [], "ask the injected Env instead"


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in _modules()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= 62
    ]
    assert long == [], "what passes 60 lines is a question to answer in review"


MAX_LINES = 500


def test_no_module_is_longer_than_one_idea() -> None:
    lines = {
        path.relative_to(SOURCE).as_posix(): len(path.read_text().splitlines())
        for path in SOURCE.rglob("*.py")
    }
    long = {name: count for name, count in lines.items() if count > MAX_LINES}
    assert long == {}, "give what it does beside its one idea a module of its own"


def test_every_question_of_the_store_is_asked_by_somebody_above_it() -> None:
    above = "\n".join(
        path.read_text() for path in SOURCE.rglob("*.py") if "_store" not in path.parts
    )
    asked = {
        name: rf"\.{name}\b" if isinstance(member, property) else rf"\.{name}\("
        for name, member in vars(protocol.Store).items()
        if not name.startswith("_")
    }
    assert [name for name, use in asked.items() if not re.search(use, above)] == []
