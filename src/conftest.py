"""Doctests run flows: their store is a folder of pytest's, never the checkout's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kitaru import app


class _Kept:
    """The Kitaru that all doctests of a process share; made by the first that needs one."""

    app: app.Kitaru | None = None


@pytest.fixture(autouse=True)
def _a_store_for_doctests(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    monkeypatch.setenv("KITARU_STORE", str(tmp_path_factory.getbasetemp() / "doctests"))
    before = app._app
    app.use(_Kept.app)
    yield
    _Kept.app = app._app
    app.use(before)
