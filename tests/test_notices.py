from __future__ import annotations

import io
import sys

import pytest

from kitaru.notices import notice, notice_once


def test_a_notice_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    notice("a\nb \x1b[31m \u202e café")
    assert capsys.readouterr() == ("", "kitaru: a\\nb \\x1b[31m \\u202e café\n")


def test_a_notice_can_be_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        notice_once("said by test_a_notice_can_be_said_once")
    assert capsys.readouterr().err.count("\n") == 1


def test_a_notice_that_cannot_be_shown_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    for stream in (None, closed, ascii_only):
        monkeypatch.setattr(sys, "stderr", stream)
        notice("café")
