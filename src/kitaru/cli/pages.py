"""The pages of the error codes, as they stand in docs/errors/, on a terminal.

The wheel brings them along; in a checkout they are read where they are written.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from kitaru._core.names import nearest
from kitaru.cli.canvas import Line, Piece, Screen, screen_of, wrapped, write
from kitaru.cli.output import Session
from kitaru.cli.style import DIM, HEADING, KINDS
from kitaru.codes import CODES, kind_of
from kitaru.errors import KitaruBackendError, KitaruNotFoundError

PACKAGE = Path(__file__).resolve().parents[1]
FOLDERS = (PACKAGE / "error_pages", PACKAGE.parents[1] / "docs" / "errors")
"""Where the pages are: in an installed package, in a checkout."""

MAX_COLUMNS = 100
"""Longer lines are hard to read."""


def list_codes(session: Session) -> None:
    if session.as_json:
        session.items([as_item(code) for code in CODES])
        return
    lines: list[Line] = []
    width = max(map(len, CODES))
    for kind, (where, style) in KINDS.items():
        lines.append([Piece(f"errors {where}", style)])
        lines += [
            [Piece(f"  {code:<{width}}  "), Piece(meaning, DIM)]
            for code, (of, meaning) in sorted(CODES.items())
            if of is kind
        ]
    write(lines, screen_of(sys.stdout))


def as_item(code: str) -> dict[str, str]:
    return {"code": code, "kind": kind_of(code).value, "meaning": CODES[code][1]}


def show_page(session: Session, code: str) -> None:
    wanted = code.strip().lower().replace("_", "-")
    if wanted not in CODES:
        near = nearest(wanted, CODES)
        hint = f"did you mean {near!r}?" if near else "see all: kitaru explain"
        raise KitaruNotFoundError(
            f"there is no error code {code[:80]!r}; {hint}", code="no-such-code"
        )
    page = page_of(wanted)
    if session.as_json:
        session.item({**as_item(wanted), "page": page})
        return
    screen = screen_of(sys.stdout)
    lines = [each for line in plain(page).splitlines() for each in _lines(line, screen)]
    write(lines, screen)


def page_of(code: str) -> str:
    """The Markdown of a code's page."""
    for folder in FOLDERS:
        try:
            return (folder / f"{code}.md").read_text(encoding="utf-8")
        except OSError:
            continue
    raise KitaruBackendError(
        f"the page of {code!r} is not there: install Kitaru again",
        code="kitaru-failed",
    )


def plain(page: str) -> str:
    """A page as people read it without a browser: no remarks, no targets of links.

    >>> plain("See [Values](../values.md).\\n<!-- not run -->\\n```python\\nx\\n```\\n")
    'See Values.\\n    x\\n'
    """
    page = re.sub(r"^<!--.*?-->\n", "", page, flags=re.M)
    lines, in_code = [], False
    for line in page.splitlines():
        if line.startswith("```"):
            in_code = not in_code
        elif in_code:
            lines.append(f"    {line}".rstrip())
        else:
            lines.append(re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", line).replace("**", ""))
    return "\n".join(lines) + "\n"


def _lines(text: str, screen: Screen) -> list[Line]:
    """A line of a page; a paragraph as so many as the terminal needs."""
    heading = re.match(r"#+ (.*)", text)
    if heading:
        return [[Piece(heading[1], HEADING)]]
    if text.startswith("    "):
        return [[Piece(text, DIM)]]
    columns = min(screen.columns, MAX_COLUMNS)
    return [[Piece(line)] for line in (wrapped(text, columns) if screen.drawn else [text])]
