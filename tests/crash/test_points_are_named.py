"""A suite whose faults did not fire is red: every named point is reached, and kills."""

from __future__ import annotations

import ast
import inspect as python_inspect
from pathlib import Path
from typing import Any, get_args

import pytest

import kitaru
from kitaru._engine import awaiting, effects, execution
from kitaru._engine.effects import Ask, Effect
from kitaru._store import commit, protocol
from kitaru._store.sqlite import backup, migrate, store

from .corpus import SCENARIOS
from .harness import ForkServer


def _both(writes: tuple[str, ...], why: str) -> dict[str, str]:
    return {f"{when}_commit:{write}": why for write in writes for when in ("before", "after")}


NOT_REACHED = {
    **dict.fromkeys(migrate.CRASH_POINTS, "a migration, killed in the tests of the store"),
    **dict.fromkeys(backup.CRASH_POINTS, "a copy of the store, killed in test_backup"),
    "blob_dropped": "a collection, killed at each of its points in test_housekeeping",
    **_both(("Delete", "Sweep", "DropBlobs"), "as above"),
    **_both(("Import",), "killed at each of its points in test_transfer"),
    **_both(("Beat", "Reap"), "of processes with a lease: one statement, beside every execution"),
    **_both(("SetSchedule", "Fire"), "killed at each of its points in engine/test_schedules"),
    **_both(
        ("DropSchedule", "PauseSchedule", "RemoveSchedule"), "one write from outside of every flow"
    ),
    **_both(
        ("ClaimNext", "SetLimits", "Enlist", "Draining"),
        "of workers, of which the corpus has none: one transaction each, beside every execution",
    ),
    **_both(("Forget",), "one write from outside of every flow, with nothing beside it"),
}

SOMETIMES = {*_both(("DeclareDead", "Release"), "")}
"""Written at a clean exit and at a hand-back, to which few lives of the corpus come in time."""

UNSEEN = {("migrate.py", "_make"): "commits to a file that nobody sees before `store_linked`"}
OF_THE_PROGRAM = {
    ("within.py", "_commit"): "on the program's own connection; nothing of ours comes after it",
    ("alchemy.py", "__init__"): "listens for a session's commit, to refuse it",
    ("alchemy.py", "_refuse"): "names what it refuses",
}

pytestmark = pytest.mark.slow

SOURCES = Path(kitaru.__file__).parent


def test_every_named_point_kills_in_some_flow_of_the_corpus(server: ForkServer) -> None:
    reached: dict[str, str] = {}
    for scenario in SCENARIOS.values():
        for point in server.reference(scenario, scenario.variants[0])["points"]:
            reached.setdefault(point, scenario.name)
    for name in SCENARIOS:
        found = server.trial(
            name, len(server.reference(SCENARIOS[name], _first(name))["points"]) // 2
        )
        for point in found["ended"][-1].get("points", ()):
            reached.setdefault(point, name)
    expected = {*store.CRASH_POINTS, *_effects(), "recall", "drift", "reuse", "carry"}
    left = sorted(expected - reached.keys() - NOT_REACHED.keys() - SOMETIMES)
    assert not left, ", ".join(left)
    assert sorted(NOT_REACHED.keys() & reached.keys()) == [], "reached after all: take it off"


def test_a_kill_at_each_point_by_name_is_survived(server: ForkServer) -> None:
    fired: set[str] = set()
    for point, names in _where(server).items():
        # Some come by only if something is late: then in another scenario, or the next time.
        assert any(
            server.trial(name, point)["ended"][0].get("died_at") == point
            for name in (*names, *names)
        ), f"{point} did not fire in any of {names}"
        fired.add(point)
    assert len(fired) > 15


def test_a_store_that_is_killed_while_it_is_made_is_made_by_the_next(server: ForkServer) -> None:
    made = ("store_made", "store_linked")
    for point in made:
        ended = server.trial("sequential", point, fresh=True)["ended"]
        assert ended[0].get("died_at") == point


def _first(name: str) -> str:
    return SCENARIOS[name].variants[0]


def _where(server: ForkServer) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for scenario in SCENARIOS.values():
        for point in dict.fromkeys(server.reference(scenario, scenario.variants[0])["points"]):
            found.setdefault(point, []).append(scenario.name)
    return found


def _effects() -> set[str]:
    """The names of the effects that a driver passes; ``Ask`` gives a name to each asking."""
    classes = [
        thing
        for module in (effects, execution, awaiting)
        for _, thing in python_inspect.getmembers(module, python_inspect.isclass)
        if issubclass(thing, Effect) and thing not in (Effect, Ask)
    ]
    assert all("name" in vars(one) for one in classes), "an effect without a name of its own"
    return {one.name for one in classes}


# --- nothing is committed without a name ------------------------------------------------


def test_every_write_of_the_protocol_has_its_points() -> None:
    writes = set(get_args(protocol.Write))
    assert set(commit.WRITES) == writes
    for write in writes:
        assert commit.BEFORE_COMMIT[write] in store.CRASH_POINTS
        assert commit.AFTER_COMMIT[write] in store.CRASH_POINTS


def test_every_function_that_commits_passes_a_crash_point_before_and_after() -> None:
    """Held against the source: what commits says so to the environment, by name."""
    commits = [
        (path, function)
        for path in (SOURCES / "_store").rglob("*.py")
        for function in _functions(path)
        if _commits(function)
        and (path.name, function.name) not in {("database.py", "commit"), *OF_THE_PROGRAM}
    ]
    assert commits, "the test does not see the commits any more"
    for path, function in commits:
        points = [line for line, name in _calls(function) if "crash_point" in name]
        for line in _commits(function):
            if (path.name, function.name) not in UNSEEN:
                assert any(point < line for point in points), f"{path.name}:{line}: none before"
            assert any(point > line for point in points), f"{path.name}:{line}: none after"


def _functions(path: Path) -> list[ast.FunctionDef]:
    return [
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)
    ]


def _calls(function: ast.FunctionDef) -> list[tuple[int, str]]:
    return [
        (node.lineno, ast.unparse(node.func))
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
    ]


def _commits(function: ast.FunctionDef) -> list[int]:
    found: list[int] = []
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            said = any(isinstance(arg, ast.Constant) and _is_commit(arg.value) for arg in node.args)
            if said or ast.unparse(node.func).endswith(".commit"):
                found.append(node.lineno)
    return found


def _is_commit(value: Any) -> bool:
    return isinstance(value, str) and value.strip().upper().startswith("COMMIT")
