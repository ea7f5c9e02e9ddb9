from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def store(own_store: Path) -> Path:
    """Every test here works in a store of its own."""
    return own_store
