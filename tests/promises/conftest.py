from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kitaru import app
from kitaru.env import SystemEnv


@pytest.fixture(autouse=True)
def store(own_store: Path) -> Path:
    """Every test here works in a store of its own."""
    return own_store


class ShiftedEnv(SystemEnv):
    """The real clock, ahead by as much as a test says."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def now(self) -> int:
        return super().now() + int(self.ahead_seconds * 1e6)


@pytest.fixture
def clock() -> Iterator[ShiftedEnv]:
    """The clock of this test's Kitaru, which may be set forward."""
    env = ShiftedEnv()
    app.use_env(env)
    yield env
    app.use_env(SystemEnv())
