"""A database with the user's table ``paid`` in it, which is also this process's store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from kitaru import app

from .kit import TABLE


@pytest.fixture
def database(own_store: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its URL."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(TABLE)
    monkeypatch.setenv("KITARU_STORE", postgres_url)
    monkeypatch.setenv("KITARU_PROJECT", "shop")
    yield postgres_url
    app.close(5)  # while its database is there
