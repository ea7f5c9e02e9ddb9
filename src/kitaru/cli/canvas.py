"""Text laid out for a terminal of any width: pieces with styles, measured in its columns.

Layouts are pure functions from records to lines, so that they are tested
without a terminal; only :func:`write` knows streams. How wide a character is, is
rich's knowledge; it is asked only about texts that are more than plain ones.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TextIO

from kitaru.cli import style
from kitaru.cli.output import cleaned

NARROWEST = 20
USUAL = 80

_NARROW = frozenset(
    [
        *map(chr, range(0x20, 0x7F)),
        *map(chr, range(0x2500, 0x25A0)),  # boxes and bars
        "…",
        *(look.symbol for look in style.LOOKS.values()),
    ]
)
"""What our own lines are made of takes a column each: no library is loaded for them."""


class Piece(NamedTuple):
    text: str
    style: str = ""


Line = list[Piece]


class Screen(NamedTuple):
    """What is written to. ``drawn``: a person looks; else a program reads plain columns."""

    columns: int = 80
    drawn: bool = True
    colour: bool = False
    unicode: bool = True

    def symbol(self, word: str) -> str:
        return style.symbol_of(word, unicode=self.unicode)

    @property
    def ellipsis(self) -> str:
        return "…" if self.unicode else "..."


def screen_of(stream: TextIO) -> Screen:
    return Screen(
        columns=max(_columns(stream), NARROWEST),
        drawn=style.is_terminal(stream),
        colour=style.is_colourful(stream),
        unicode=style.speaks_unicode(stream),
    )


def _columns(stream: TextIO) -> int:
    """As ``shutil`` tells them, which takes 10 ms to load for it."""
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and 0 < int(said) < 100_000:
        return int(said)
    try:
        return os.get_terminal_size(stream.fileno()).columns or USUAL
    except (OSError, ValueError, AttributeError):
        return USUAL


# --- measuring ---------------------------------------------------------------------------


def columns_of(text: str) -> int:
    """How many columns of a terminal the text takes: wide characters take two, marks none.

    >>> columns_of("größe"), columns_of("日本"), columns_of("e\\u0301")
    (5, 4, 1)
    """
    if text.isascii():
        return len(text)
    others = [character for character in text if character not in _NARROW]
    if not others:
        return len(text)
    from rich.cells import cell_len

    return len(text) - len(others) + cell_len("".join(others))


def cut(text: str, columns: int, *, ellipsis: str = "…") -> str:
    """The text in at most so many columns, its end left out visibly.

    >>> cut("a long name", 6), cut("short", 6), cut("日本語", 5)
    ('a lon…', 'short', '日本…')
    """
    if columns_of(text) <= columns:
        return text
    kept = ""
    room = columns - columns_of(ellipsis)
    for character in text:
        room -= columns_of(character)
        if room < 0:
            break
        kept += character
    return (kept + ellipsis) if columns > columns_of(ellipsis) else ellipsis[:columns]


def padded(text: str, columns: int, *, right: bool = False) -> str:
    space = " " * (columns - columns_of(text))
    return space + text if right else text + space


def length(line: Iterable[Piece]) -> int:
    return sum(columns_of(piece.text) for piece in line)


def wrapped(text: str, columns: int) -> list[str]:
    """Lines of at most so many columns, broken between words where that is possible."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line, *words = paragraph.split(" ")
        for word in [None, *words]:
            if word is not None and columns_of(line) + 1 + columns_of(word) > columns:
                lines.append(line)
                line = word
            elif word is not None:
                line = f"{line} {word}"
            while columns_of(line) > columns:
                head = cut(line, columns, ellipsis="")
                lines.append(head)
                line = line[len(head) :]
        lines.append(line)
    return lines


def one_line(text: str) -> str:
    """The text as it may stand in a cell: nothing in it that a terminal or a column would obey.

    >>> one_line("a\\tb\\x1b[31m")
    'a b\\\\x1b[31m'
    """
    return cleaned(" ".join(text.split()) if not text.isprintable() else text)


# --- shapes ----------------------------------------------------------------------------------


def clipped(line: Line, columns: int, *, ellipsis: str = "…") -> Line:
    """The line in at most so many columns."""
    if length(line) <= columns:
        return line
    kept: Line = []
    room = columns
    for piece in line:
        text = cut(piece.text, room, ellipsis=ellipsis)
        if columns_of(piece.text) == room and piece is not line[-1]:
            text = cut(piece.text + " ", room, ellipsis=ellipsis)
        kept.append(Piece(text, piece.style))
        room -= columns_of(text)
        if text != piece.text or room <= 0:
            break
    return kept


def fields(pairs: Iterable[tuple[str, Line]], screen: Screen) -> list[Line]:
    """Names and values, one a line, long values folded below each other."""
    shown = [(name, value) for name, value in pairs if value]
    width = max((columns_of(name) for name, _ in shown), default=0) + 2
    lines: list[Line] = []
    for name, value in shown:
        if width * 2 > screen.columns:
            lines.append([Piece(name, style.DIM)])
            lines += [[Piece("  "), *part] for part in folded(value, screen.columns - 2)]
            continue
        first, *rest = folded(value, screen.columns - width)
        lines.append([Piece(padded(name, width), style.DIM), *first])
        lines += [[Piece(" " * width), *part] for part in rest]
    return lines


def folded(line: Line, columns: int) -> list[Line]:
    """The line as lines of at most so many columns; styles go along."""
    if length(line) <= columns and not any("\n" in piece.text for piece in line):
        return [line]
    if len(line) == 1:
        return [[Piece(text, line[0].style)] for text in wrapped(line[0].text, columns)]
    lines: list[Line] = [[]]
    for piece in line:
        room = columns - length(lines[-1])
        if columns_of(piece.text) <= room:
            lines[-1].append(piece)
            continue
        first, *rest = wrapped(piece.text, columns)
        if lines[-1]:
            lines.append([])
        lines[-1].append(Piece(first.lstrip(" ") or first, piece.style))
        lines += [[Piece(text, piece.style)] for text in rest]
    return lines


# --- writing -----------------------------------------------------------------------------------


def painted(line: Line, screen: Screen) -> str:
    if not screen.colour:
        return "".join(piece.text for piece in line).rstrip(" ")
    return "".join(
        style.paint(piece.text, piece.style) if piece.style else piece.text for piece in line
    )


def write(lines: Sequence[Line], screen: Screen, stream: TextIO | None = None) -> None:
    """Write the lines at once; the stream's encoding decides what cannot be shown."""
    to: TextIO = stream or sys.stdout
    text = "".join(painted(line, screen) + "\n" for line in lines)
    encoding = getattr(to, "encoding", None) or "utf-8"
    to.write(text.encode(encoding, "backslashreplace").decode(encoding))
    to.flush()
