from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kitaru import app, opening
from kitaru._engine.held import who_holds
from kitaru._store.postgres.store import PostgresStore

from .far import FarStore

STORE = os.environ.get("ENGINE_STORE", "sqlite")
"""Over which store these tests run: ``sqlite``, ``far`` (the same behind a network) or
``postgres``. The usual run takes the first, and ``test_over_a_network.py`` the others."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if STORE == "sqlite":
        return
    left_out = [item for item in items if item.get_closest_marker("sqlite")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def store(own_store: Path, request: pytest.FixtureRequest) -> Path:
    """Every test here works in a store of its own."""
    if STORE != "sqlite":
        request.getfixturevalue("far_store" if STORE == "far" else "postgres_store")
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


@pytest.fixture
def postgres_store(
    own_store: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """This process's Kitaru has PostgreSQL for its store. A test that has us wait for it on an
    event loop, where nobody called us without ``await``, fails."""
    held: list[str] = []
    open_store = opening.open_store

    def note() -> None:
        if who_holds(sys._getframe()) is None:
            held.append("".join(traceback.format_stack()))

    def open_postgres(env: Any) -> Any:
        found = open_store(env)
        project = found.store.project
        found.store.close()
        store = PostgresStore.open(postgres_url, env=env, project=project, look_seconds=0)
        store.when_held(note)
        return found._replace(store=store)

    monkeypatch.setattr(opening, "open_store", open_postgres)
    yield
    app.close(5)  # while its database is there
    assert not held, f"the event loop waited for the store:\n{held[0]}"
