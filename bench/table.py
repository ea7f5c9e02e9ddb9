"""The table: with colours on a terminal, plain text elsewhere, or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.figures import Row, Sample

HEADER = ("what", "median", "min", "max", "mean", "cpu", "limit", "ratio", "target", "met")


def number(value: float) -> str:
    """Three digits that count."""
    if value >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def cells(row: Row) -> tuple[str, ...]:
    figure = row.figure
    met = {None: "", True: "yes", False: "NO"}[row.met]
    return (
        row.name,
        f"{number(figure.median)} {row.unit}",
        number(figure.minimum),
        number(figure.maximum),
        number(figure.mean),
        "" if row.cpu is None else number(row.cpu.median),
        "" if row.limit is None else number(row.limit.median),
        _ratio(row.ratio),
        "" if row.target is None else str(row.target),
        met,
    )


def _ratio(ratio: Sample | None) -> str:
    if ratio is None:
        return ""
    spread = "" if ratio.count < 2 else f" ({ratio.minimum:.2f}-{ratio.maximum:.2f})"
    return f"{ratio.median:.2f}×{spread}"


def show(rows: Sequence[Row], machine: str) -> None:
    if sys.stdout.isatty():
        _show_rich(rows, machine)
    else:
        _show_plain(rows, machine)
    print("\nThe limits, and notes:")
    for row in rows:
        said = "; ".join(part for part in (_limit_note(row), row.note) if part)
        if said:
            print(f"  {row.name}: {said}")


def _limit_note(row: Row) -> str:
    if row.limit is None:
        return ""
    limit = row.limit
    spread = " / ".join(number(v) for v in (limit.minimum, limit.maximum, limit.mean))
    cpu = "" if row.limit_cpu is None else f", CPU {number(row.limit_cpu.median)}"
    return f"{row.limit_name} {number(limit.median)} {row.unit} (min / max / mean {spread}{cpu})"


def _show_plain(rows: Sequence[Row], machine: str) -> None:
    lines = [HEADER, *map(cells, rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEADER))]
    print(machine)
    for line in lines:
        first, *others = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join((first, *others)).rstrip())


def _show_rich(rows: Sequence[Row], machine: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=machine, title_justify="left")
    for title in HEADER:
        table.add_column(title, justify="left" if title == "what" else "right")
    for row in rows:
        style = {None: "", True: "green", False: "red"}[row.met]
        *shown, met = cells(row)
        table.add_row(*shown, f"[{style}]{met}[/{style}]" if style else met)
    Console().print(table)


def write_json(path: Path, rows: Sequence[Row], machine: dict[str, Any]) -> None:
    items = [{**asdict(row), "target": str(row.target or ""), "met": row.met} for row in rows]
    path.write_text(json.dumps({"machine": machine, "rows": items}, indent=1) + "\n")
