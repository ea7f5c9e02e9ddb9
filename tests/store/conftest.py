"""The stores under test. A third backend is one more entry of ``STORES``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kitaru._store.reference import ReferenceStore
from kitaru._store.sqlite.store import SqliteStore

from .worlds import AnyStore, StillEnv


def _reference(folder: Path, env: StillEnv) -> AnyStore:
    return ReferenceStore(project="demo", env=env)


def _sqlite(folder: Path, env: StillEnv) -> AnyStore:
    return SqliteStore.open(str(folder), env=env, project="demo")


STORES: dict[str, Callable[[Path, StillEnv], AnyStore]] = {
    "reference": _reference,
    "sqlite": _sqlite,
}


@pytest.fixture
def env() -> StillEnv:
    return StillEnv()


@pytest.fixture(params=sorted(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path, env: StillEnv) -> Iterator[AnyStore]:
    opened = STORES[request.param](tmp_path, env)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(tmp_path: Path, env: StillEnv) -> Iterator[SqliteStore]:
    opened = SqliteStore.open(str(tmp_path), env=env, project="demo")
    yield opened
    opened.close()
