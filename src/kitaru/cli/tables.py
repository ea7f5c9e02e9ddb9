"""A table of plain cells: drawn for people on a terminal, columns separated by tabs in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from kitaru.cli import style
from kitaru.cli.canvas import Line, Piece, columns_of, cut, one_line, padded, screen_of, write

Row = Mapping[str, str]
"""A cell by the name of its column."""


def print_table(
    rows: Sequence[Row],
    *,
    head: Sequence[str],
    drawn: Sequence[str],
    below: str = "",
    looks: Sequence[str] = (),
) -> None:
    """``head``: all columns, for programs; ``drawn``: those for people. The column ``below``
    becomes a line of its own below its row where it says something. ``looks``: how each row
    looks."""
    screen = screen_of(sys.stdout)
    rows = [{name: one_line(cell) for name, cell in row.items()} for row in rows]
    if not screen.drawn:
        lines = ["\t".join(head), *("\t".join(row[name] for name in head) for row in rows)]
        write([[Piece(line)] for line in lines], screen)
        return
    table = [{name: name.upper() for name in drawn}, *rows]
    widths = {name: max(columns_of(row[name]) for row in table) for name in drawn}
    drawn_lines: list[Line] = []
    for number, row in enumerate(table):
        text = "  ".join(padded(row[name], widths[name]) for name in drawn).rstrip()
        look = style.DIM if number == 0 else looks[number - 1] if looks else ""
        drawn_lines.append([Piece(cut(text, screen.columns, ellipsis=screen.ellipsis), look)])
        if number and below and row[below]:
            drawn_lines.append([Piece(f"  {row[below]}", style.DIM)])
    write(drawn_lines, screen)
