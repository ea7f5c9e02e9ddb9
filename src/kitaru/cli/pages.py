"""The pages of the error codes in docs/errors/: drawn on a terminal, else as they are written.

The wheel brings them along; in a checkout they are read where they are written.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from kitaru._core.names import nearest
from kitaru.cli.canvas import Line, Piece, Screen, screen_of, write
from kitaru.cli.output import Session
from kitaru.cli.style import DIM, KINDS
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
    page = _for_readers(page)
    screen = screen_of(sys.stdout)
    if screen.drawn and screen.unicode:
        _draw(page, screen)
    else:
        # Markdown is made to be read as it is.
        write([[Piece(line)] for line in page.splitlines()], screen)


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


def _for_readers(page: str) -> str:
    """The page without what is written for the tests, or leads elsewhere in the documentation.

    >>> _for_readers("See this:\\n\\n<!-- not run -->\\n```python\\nx\\n```\\n")
    'See this:\\n\\n```python\\nx\\n```\\n'
    """
    page = re.sub(r"^<!--.*?-->\n", "", page, flags=re.MULTILINE)
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", page)


def _draw(page: str, screen: Screen) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    drawn = Markdown(page, code_theme="ansi_dark")
    columns = min(screen.columns, MAX_COLUMNS)
    Console(width=columns, no_color=not screen.colour, highlight=False).print(drawn)
