from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import ForkServer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    server = ForkServer(Path(tmp_path_factory.mktemp("lives")))
    yield server
    server.close()
