"""Fixtures for tests of flows: pytest finds them by itself where Kitaru is installed.

Imported by every pytest of the environment, so nothing of Kitaru is loaded before a
test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kitaru.testing import World


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "kitaru(answers=None, now=None, clock='auto', timeout=5.0): "
        "how the world of the fixture kitaru_world is made; see kitaru.testing.in_memory",
    )


@pytest.fixture
def kitaru_store(tmp_path: Path) -> Iterator[Path]:
    """A store on the disk for this test alone -> its folder. See kitaru.testing.isolated_store."""
    from kitaru.testing import isolated_store

    with isolated_store(tmp_path / "kitaru") as folder:
        yield folder


@pytest.fixture
def kitaru_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A Kitaru in memory with a clock of its own, for this test. See kitaru.testing.in_memory.

    ``@pytest.mark.kitaru(answers={"approve": True})`` says what ``in_memory`` is told.
    """
    from kitaru.testing import in_memory

    marker = request.node.get_closest_marker("kitaru")
    with in_memory(**(marker.kwargs if marker is not None else {})) as world:
        yield world
