"""One store for each file of the campaign: what one hostile item does must not hurt the next."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import end_app

from kitaru import app, settings


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("KITARU_"):
                patch.delenv(name)
        settings.forget_configuration()
        folder = tmp_path_factory.mktemp("hostile") / "store"
        patch.setenv("KITARU_STORE", str(folder))
        app.use(None)
        yield folder
        end_app()
        settings.forget_configuration()
