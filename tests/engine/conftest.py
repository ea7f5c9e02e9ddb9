from __future__ import annotations

import itertools
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import postgres

from kitaru import app, opening
from kitaru._engine.held import who_holds
from kitaru._store.postgres.store import PostgresStore

from .far import FarStore

STORE = os.environ.get("ENGINE_STORE", "sqlite")
"""Over which store these tests run: ``sqlite``, ``far`` (the same behind a network) or
``postgres``. The usual run takes the first; ``test_over_a_network.py`` the second, and the
files of ``TWICE`` the third too."""

TWICE = {
    "test_calls",
    "test_cancel_races",
    "test_cancelling",
    "test_children",
    "test_concurrency",
    "test_failures",
    "test_noticing",
    "test_parking",
    "test_wait_races",
    "test_waits",
}
"""What may go wrong where a commit is a round trip and the loop must not wait for one."""

ONCE = {"test_endless_recursion_around_checkpoints_does_not_stop_other_commits"}
"""Thousands of commits, one after another."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    is_local = metafunc.definition.get_closest_marker("sqlite") or metafunc.definition.name in ONCE
    if STORE == "sqlite" and metafunc.module.__name__.rpartition(".")[2] in TWICE and not is_local:
        over = [None, pytest.param("postgres", marks=pytest.mark.slow)]
        metafunc.parametrize("store", over, indirect=True, ids=["sqlite", "postgres"])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if STORE == "sqlite":
        return
    left_out = [item for item in items if item.get_closest_marker("sqlite")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def store(own_store: Path, request: pytest.FixtureRequest) -> Path:
    """Every test here works in a store of its own."""
    over = getattr(request, "param", None) or STORE
    if over != "sqlite":
        request.getfixturevalue("far_store" if over == "far" else "postgres_store")
    return own_store


@pytest.fixture
def far_store(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], FarStore]:
    """This process's Kitaru has its store behind a network -> that store, once it is open."""
    opened: list[FarStore] = []
    open_store = opening.open_store

    def open_far(env: Any) -> Any:
        found = open_store(env)
        opened.append(FarStore(found.store))
        return found._replace(store=opened[-1])

    monkeypatch.setattr(opening, "open_store", open_far)
    return lambda: opened[-1]


@pytest.fixture(scope="session")
def engine_database(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """A database for all of them: to make one takes longer than most tests."""
    with postgres.database(postgres_server, like=postgres_template) as url:
        yield url


_numbers = itertools.count()


@pytest.fixture
def postgres_store(
    own_store: Path, engine_database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """This process's Kitaru has a project of its own in PostgreSQL for its store. A test that has
    us wait for it on an event loop, where nobody called us without ``await``, fails."""
    name = f"test-{next(_numbers)}"
    held: list[str] = []
    open_store = opening.open_store

    def note() -> None:
        if who_holds(sys._getframe()) is None:
            held.append("".join(traceback.format_stack()))

    def open_postgres(env: Any) -> Any:
        found = open_store(env)
        project = f"{found.store.project}-{name}"
        found.store.close()
        store = PostgresStore.open(engine_database, env=env, project=project, look_seconds=0)
        store.when_held(note)
        return found._replace(store=store)

    monkeypatch.setattr(opening, "open_store", open_postgres)
    yield
    app.close(5)  # while its database is there
    assert not held, f"the event loop waited for the store:\n{held[0]}"
