"""What every test may ask for: a store of its own, and a clean end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kitaru import app, settings


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
