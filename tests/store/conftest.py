"""The stores under test. Another backend is one more entry of ``STORES``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import postgres

from kitaru._store.postgres.store import PostgresStore
from kitaru._store.reference import ReferenceStore
from kitaru._store.sqlite.store import SqliteStore

from .worlds import AnyStore, StillEnv


def _reference(request: pytest.FixtureRequest, env: StillEnv) -> AnyStore:
    return ReferenceStore(project="demo", env=env)


def _sqlite(request: pytest.FixtureRequest, env: StillEnv) -> AnyStore:
    folder = request.getfixturevalue("tmp_path")
    return SqliteStore.open(str(folder), env=env, project="demo")


def _postgres(request: pytest.FixtureRequest, env: StillEnv) -> AnyStore:
    url = request.getfixturevalue("postgres_url")
    postgres.give_time(url)
    return PostgresStore.open(url, env=env, project="demo", look_seconds=0)


STORES: dict[str, Callable[[pytest.FixtureRequest, StillEnv], AnyStore]] = {
    "postgres": _postgres,
    "reference": _reference,
    "sqlite": _sqlite,
}


@pytest.fixture
def env() -> StillEnv:
    return StillEnv()


@pytest.fixture(params=sorted(STORES))
def store(request: pytest.FixtureRequest, env: StillEnv) -> Iterator[AnyStore]:
    opened = STORES[request.param](request, env)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(tmp_path: Path, env: StillEnv) -> Iterator[SqliteStore]:
    opened = SqliteStore.open(str(tmp_path), env=env, project="demo")
    yield opened
    opened.close()
