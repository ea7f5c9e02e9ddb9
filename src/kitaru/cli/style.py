"""One glossary for the eye: each status and source has one colour, one symbol and one word.

Also what a stream can show of that. Needs nothing heavy: the
first line of an error must not wait for anything to load.
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple, TextIO

from kitaru.codes import Kind


class Look(NamedTuple):
    """How a status is shown: never by its colour alone, so that nobody depends on seeing it."""

    word: str
    style: str
    """A colour, perhaps after ``bold`` or ``dim``: see :func:`paint`."""
    symbol: str
    plain_symbol: str
    """For streams that cannot encode the other; it stands for itself without colour, too."""


_LOOKS = (
    # Executions
    Look("pending", "dim", "○", "."),
    Look("running", "cyan", "●", "*"),
    Look("waiting", "magenta", "◷", "?"),
    Look("completed", "green", "✔", "+"),
    Look("failed", "red", "✘", "x"),
    Look("cancelling", "yellow", "◌", "-"),
    Look("cancelled", "yellow", "⊘", "-"),
    Look("interrupted", "yellow", "◐", "!"),
    Look("stopped", "yellow", "◐", "!"),  # by Ctrl-C, and handed back or about to be
    # Where a call's outcome comes from: only what ran cost anything now.
    Look("ran", "green", "✔", "+"),
    Look("recalled", "blue", "↺", "="),
    Look("reused", "blue", "≡", "="),
    Look("carried", "blue", "↷", "="),
    Look("override", "magenta", "✎", "="),
    # What else happens to a call
    Look("retrying", "yellow", "↻", "~"),
    Look("drifted", "yellow", "≠", "!"),
    Look("not started", "dim", "○", "."),
)

LOOKS = {look.word: look for look in _LOOKS}

UNKNOWN = Look("unknown", "", "·", ".")

DIM = "dim"
HEADING = "bold"
ERROR = "bold red"
WARNING = "yellow"
MACHINE = "bold magenta"

KINDS = {
    Kind.YOUR_CODE: ("in your code", ERROR),
    Kind.USAGE: ("in use", WARNING),
    Kind.MACHINE: ("on this machine", MACHINE),
}
"""Three languages of failure: who has to mend it is told before what is to be mended."""

_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}


def look_of(word: str) -> Look:
    """The look of a status or source; one of another version of Kitaru has none of its own.

    >>> look_of("failed").style, look_of("from the future").word
    ('red', 'from the future')
    """
    return LOOKS.get(word) or UNKNOWN._replace(word=word)


def paint(text: str, style: str) -> str:
    """The text between the escapes of a style, for those who ask :func:`is_colourful` first.

    >>> paint("error:", ERROR)
    '\\x1b[1;31merror:\\x1b[0m'
    """
    codes = ";".join(_CODES[word] for word in style.split())
    return f"\x1b[{codes}m{text}\x1b[0m" if codes else text


def symbol_of(word: str, *, unicode: bool) -> str:
    """The symbol of a status or source, as the stream can show it (:func:`speaks_unicode`)."""
    look = look_of(word)
    return look.symbol if unicode else look.plain_symbol


def is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except (ValueError, AttributeError):
        return False


def is_dumb() -> bool:
    """Whether the terminal obeys nothing: no colour, no going back over what was written."""
    return os.environ.get("TERM", "") == "dumb"


def is_colourful(stream: TextIO | None) -> bool:
    """Whether to use colours there: on a terminal that has them, unless NO_COLOR says no."""
    return not os.environ.get("NO_COLOR") and not is_dumb() and is_terminal(stream)


def start_of_line() -> str:
    """What brings stderr to the start of a clean line, whatever stands there: an echoed ^C."""
    if not is_terminal(sys.stderr):
        return ""
    return "\n" if is_dumb() else "\r\x1b[J"


def speaks_unicode(stream: TextIO | None) -> bool:
    """Whether the stream can take every symbol above."""
    encoding = getattr(stream, "encoding", None) or "ascii"
    try:
        "".join(look.symbol for look in _LOOKS).encode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True
