"""The glossary of looks is whole, needs no colour to be read, and fits what a stream takes."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from kitaru._core.lifecycle import CallSource, CallState
from kitaru.cli import style
from kitaru.status import ExecutionStatus


@pytest.mark.parametrize("word", [*ExecutionStatus, *CallState, *CallSource, "recalled"])
def test_every_status_and_source_has_a_look_of_its_own(word: str) -> None:
    look = style.look_of(str(word))
    assert (look.word, look.plain_symbol.isascii()) == (word, True)
    assert style.paint("x", look.style).startswith("\x1b[")


def test_symbols_fall_back_where_the_stream_cannot_encode_them() -> None:
    plain = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    assert not style.speaks_unicode(plain)
    assert style.symbol_of("recalled", unicode=style.speaks_unicode(plain)) == "="
    assert style.speaks_unicode(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert not style.speaks_unicode(None)


def test_a_closed_stream_is_no_terminal() -> None:
    closed = io.StringIO()
    closed.close()
    assert not style.is_terminal(closed)
    assert not style.is_colourful(None)


def test_the_page_on_the_live_view_shows_the_symbols_of_the_glossary() -> None:
    page = (Path(__file__).parents[2] / "docs" / "live-view.md").read_text()
    rows = re.findall(r"^\| (\S) \| (\S) \|", page, re.M)
    looks = {(look.symbol, look.plain_symbol) for look in style.LOOKS.values()}
    assert len(rows) >= 8
    assert set(rows) <= looks
