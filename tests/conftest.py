"""What every test may ask for: a store of its own, and a clean end."""

from __future__ import annotations

import compileall
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as of_hypothesis
from tests import postgres

import kitaru
from kitaru import app, settings
from kitaru._store.postgres.store import PostgresStore
from kitaru.env import SystemEnv

# No example is bounded by the clock: the machine may be busy.
of_hypothesis.register_profile(
    "patient", of_hypothesis(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
of_hypothesis.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """Compile us for the thousand processes that tests start: pytest, because we have a plugin,
    keeps what it compiles of us under names of its own, and most of them keep nothing."""
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(Path(kitaru.__file__).parent, quiet=2)


@pytest.fixture(autouse=True)
def _main_script() -> Iterator[None]:
    """What stands for the main script: a command that runs a file sets it for its process."""
    main = sys.modules["__main__"].__dict__
    before = main.get("__file__")
    yield
    if before is None:
        main.pop("__file__", None)
    else:
        main["__file__"] = before


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server, shared by the tests of this process."""
    with postgres.serving() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    """The name of a database with a store in it, to be copied."""
    with postgres.database(postgres_server) as place:
        PostgresStore.open(place, env=SystemEnv(), project="demo").close()
        yield place.split("dbname=")[1].split()[0]


@pytest.fixture
def postgres_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """The URL of a fresh database with an empty store."""
    with postgres.database(postgres_server, like=postgres_template) as place:
        yield place


@pytest.fixture
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """This process's Kitaru works in a fresh folder; afterwards it is ended and forgotten."""
    for name in list(os.environ):
        if name.startswith("KITARU_"):
            monkeypatch.delenv(name)
    settings.forget_configuration()
    folder = tmp_path / "store"
    monkeypatch.setenv("KITARU_STORE", str(folder))
    app.use(None)
    yield folder
    end_app()
    settings.forget_configuration()


def end_app() -> None:
    """Let what runs finish, close the store, stop the loop: the next use makes a new Kitaru."""
    app.close(5)
