"""Executions and those that they started: as a tree, bounded, in `get` and in `list`.

Knows records and lines; asks for children by a function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from kitaru.cli import style
from kitaru.cli.canvas import Line, Piece, Screen, clipped, one_line
from kitaru.cli.listing import Listed
from kitaru.cli.times import took
from kitaru.model import Execution

MAX_RELATIVES = 200
"""So many descendants are read for one tree."""
FOLD_ABOVE = 8
"""So many children of one parent are shown one by one."""


@dataclass
class Relative:
    """A child of an execution, and its own."""

    execution: Execution
    children: list[Relative] = field(default_factory=list)


def family_of(
    children_of: Callable[[str, int], Sequence[Execution]], exec_id: str
) -> list[Relative]:
    """The descendants of an execution, nearest first, as far as there is room for them."""
    top: list[Relative] = []
    todo, room = [(exec_id, top)], MAX_RELATIVES
    while todo and room > 0:
        parent, into = todo.pop(0)
        for child in children_of(parent, room):
            relative = Relative(child)
            into.append(relative)
            todo.append((child.exec_id, relative.children))
            room -= 1
    return top


def family_lines(relatives: Sequence[Relative], screen: Screen) -> list[Line]:
    """The tree below an execution: status, flow, how long, id."""
    total = _count(relatives)
    more = "+" if total >= MAX_RELATIVES else ""
    lines: list[Line] = [[Piece("children  ", style.DIM), Piece(f"{total:,}{more}", style.HEADING)]]
    for line in _tree(relatives, "", screen):
        lines.append(clipped(line, screen.columns, ellipsis=screen.ellipsis))
    return lines


def _count(relatives: Sequence[Relative]) -> int:
    return sum(1 + _count(each.children) for each in relatives)


def _tree(relatives: Sequence[Relative], indent: str, screen: Screen) -> Iterator[Line]:
    fork, last_fork, pipe = ("├─ ", "└─ ", "│  ") if screen.unicode else ("|- ", "`- ", "|  ")
    shown = _shown(relatives)
    hidden = len(relatives) - len(shown)
    for number, each in enumerate(shown):
        is_last = number == len(shown) - 1 and not hidden
        yield [Piece(indent + (last_fork if is_last else fork), style.DIM), *_about(each, screen)]
        yield from _tree(each.children, indent + ("   " if is_last else pipe), screen)
    if hidden:
        yield [Piece(f"{indent}{last_fork}{screen.ellipsis} and {hidden:,} more", style.DIM)]


def _shown(relatives: Sequence[Relative]) -> Sequence[Relative]:
    """Of many, the first ones and those that did not go well."""
    if len(relatives) <= FOLD_ABOVE:
        return relatives
    bad = [each for each in relatives if each.execution.status.value != "completed"]
    kept = {
        id(each) for each in (*bad[:FOLD_ABOVE], *relatives[: FOLD_ABOVE - len(bad[:FOLD_ABOVE])])
    }
    return [each for each in relatives if id(each) in kept]


def _about(each: Relative, screen: Screen) -> Line:
    execution = each.execution
    word = execution.status.value
    look = style.look_of(word).style
    line = [
        Piece(f"{screen.symbol(word)} ", look),
        Piece(one_line(execution.flow_name), style.HEADING if each.children else ""),
        Piece(f"  {word}", look),
        Piece(f"  {took(execution.started_at, execution.ended_at)}", style.DIM),
        Piece(f"  {execution.exec_id}", style.DIM),
    ]
    if execution.status_reason:
        line.append(Piece(f"  {one_line(execution.status_reason)}", look))
    return line


def as_tree_data(relatives: Sequence[Relative]) -> list[dict[str, Any]]:
    """The same tree for programs."""
    return [
        {
            "exec_id": each.execution.exec_id,
            "flow_name": each.execution.flow_name,
            "status": each.execution.status.value,
            "status_reason": each.execution.status_reason,
            "children": as_tree_data(each.children),
        }
        for each in relatives
    ]


# --- in a list -------------------------------------------------------------------------------


def together(listed: Sequence[Listed]) -> list[Listed]:
    """Children that are listed beside their parent come below it, set in; many are folded."""
    known = {each.execution.exec_id for each in listed}
    below: dict[str, list[Listed]] = {}
    for each in listed:
        parent = each.execution.parent_exec_id
        below.setdefault(parent if parent in known and parent is not None else "", []).append(each)
    return list(_set_in(below.get("", ()), below, 0))


def _set_in(
    siblings: Sequence[Listed], below: dict[str, list[Listed]], depth: int
) -> Iterator[Listed]:
    for each in siblings:
        children = below.get(each.execution.exec_id, [])
        # Oldest first, as they were started; the list itself has the newest first.
        shown = children[::-1][:FOLD_ABOVE]
        yield each._replace(depth=depth, hidden_children=len(children) - len(shown))
        yield from _set_in(shown, below, depth + 1)
