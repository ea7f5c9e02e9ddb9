"""This process's Kitaru on PostgreSQL, beside a table of the application's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kitaru import app


@pytest.fixture
def database(own_store: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of the database that the store is in, with a table ``orders``."""
    monkeypatch.setenv("KITARU_STORE", postgres_url)
    monkeypatch.setenv("KITARU_PROJECT", "shop")
    monkeypatch.setenv("KITARU_POLL_SECONDS", "0.1")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("create table orders (number bigint)")
    app.use(None)
    yield postgres_url
    app.close(5)  # while its database is there


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database) as connection:
        yield connection
        connection.close()
