"""``executions why`` as lines: a reason for each call, and what differs as a diff, old against new.

What is equal for several calls is said once: many calls of one checkpoint with
one reason are a line with their number, one change of code is one diff.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence

from kitaru.cli import style
from kitaru.cli.canvas import Line, Piece, Screen, clipped, folded, one_line
from kitaru.cli.output import cleaned
from kitaru.model import Difference, Why

FOLD_ABOVE = 8
MAX_DIFF_LINES = 60
MAX_COMPARED_LINES = 3_000
"""Time grows with the product of what is compared."""
AROUND = 20
"""Characters shown of what two long lines have in common before they differ."""

SHORT = 40

_REMOVED, _ADDED = "red", "green"


def why_lines(found: Sequence[Why], screen: Screen) -> list[Line]:
    lines: list[Line] = []
    said: set[tuple[object, ...]] = set()
    for same in _alike(found, fold=screen.drawn):
        why = same[0]
        lines += _fitted(_heading(same, screen), screen)
        key = (why.name, why.differences)
        if why.differences and key not in said:
            said.add(key)
            lines += _compared(why, screen)
    lines += _unseen(found, screen)
    return lines


def _alike(found: Sequence[Why], *, fold: bool) -> Iterator[list[Why]]:
    """Calls of one checkpoint with one reason, together where they are many."""
    groups: dict[tuple[str, str, str], list[Why]] = {}
    for why in found:
        groups.setdefault((why.name, why.source, _reason(why)), []).append(why)
    many = {key for key, same in groups.items() if fold and len(same) > FOLD_ABOVE}
    done: set[tuple[str, str, str]] = set()
    for why in found:
        key = (why.name, why.source, _reason(why))
        if key not in many:
            yield [why]
        elif key not in done:
            done.add(key)
            yield groups[key]


def _reason(why: Why) -> str:
    return "" if why.source == "reused" else why.reason


def _heading(same: Sequence[Why], screen: Screen) -> Line:
    why = same[0]
    text = one_line(str(why).split("\n", 1)[0])
    if not screen.drawn:
        return [Piece(text)]
    number, _, said = text.partition(": ")
    word = why.source if why.status == "completed" else why.status
    count = f" ×{len(same):,}" if len(same) > 1 else ""
    name = one_line(why.name) if len(same) > 1 else number
    look = style.look_of(word).style
    return [
        Piece(f"{screen.symbol(word)} ", look),
        Piece(name + count, style.HEADING),
        Piece("  "),
        Piece(said if len(same) == 1 or why.source != "reused" else "reused", look),
    ]


def _fitted(line: Line, screen: Screen) -> list[Line]:
    return folded(line, screen.columns) if screen.drawn else [line]


# --- what differs ----------------------------------------------------------------------------


def _compared(why: Why, screen: Screen) -> list[Line]:
    whom = (why.compared_with or "")[-12 if screen.drawn else 0 :]
    against = f"execution {whom}" if whom else "what was recorded before"
    lines = [clipped([Piece(f"  against {against}:", style.DIM)], screen.columns)]
    for difference in why.differences:
        lines += _difference(difference, screen)
    return lines


def _difference(difference: Difference, screen: Screen) -> list[Line]:
    title: Line = [Piece("  "), Piece(one_line(difference.name), style.HEADING)]
    if (change := _in_a_word(difference, screen)) is not None:
        return _fitted([*title, Piece("  "), *change], screen)
    if difference.note:
        title += [Piece("  "), Piece(difference.note, style.DIM)]
    lines = _fitted(title, screen)
    for sign, text in _diff(difference):
        look = {"-": _REMOVED, "+": _ADDED, "@": "cyan"}.get(sign, style.DIM)
        line = [Piece(f"  {sign} {cleaned(text)}", look)]
        lines.append(clipped(line, screen.columns) if screen.drawn else line)
    return lines


def _in_a_word(difference: Difference, screen: Screen) -> Line | None:
    """Old and new beside each other, where both are short."""
    old, new = difference.before, difference.after
    texts = [_readable(text) or "" for text in (old, new)]
    short = all(len(text) <= SHORT and "\n" not in text for text in texts)
    if None in (old, new) or not short or difference.note or old == new:
        return None
    arrow = " → " if screen.unicode else " -> "
    return [Piece(cleaned(old or ""), _REMOVED), Piece(arrow), Piece(cleaned(new or ""), _ADDED)]


def _diff(difference: Difference) -> list[tuple[str, str]]:
    """Signs and lines; of what is equal only what stands next to a difference."""
    before, after = difference.before, difference.after
    if before == after:
        return []
    if difference.kind == "argument":
        before, after = _readable(before), _readable(after)
    old, new = ((text or "").splitlines()[:MAX_COMPARED_LINES] for text in (before, after))
    if len(old) == len(new) == 1:
        old[0], new[0] = _where_they_differ(old[0], new[0])
    found: list[tuple[str, str]] = []
    for line in list(difflib.unified_diff(old, new, n=3, lineterm=""))[2:]:
        sign, text = line[0], line[1:]
        if sign == "@":
            if found:
                found.append(("@", "…"))
        else:
            found.append((sign, text))
    if len(found) > MAX_DIFF_LINES:
        more = len(found) - MAX_DIFF_LINES
        found = [*found[:MAX_DIFF_LINES], ("@", f"… {more:,} more lines: -o json")]
    return found


def _readable(text: str | None) -> str | None:
    """A text of several lines as its lines; everything else as the JSON that it is."""
    try:
        value = json.loads(text) if text else None
    except ValueError:
        return text
    return value if isinstance(value, str) and "\n" in value else text


def _where_they_differ(old: str, new: str) -> tuple[str, str]:
    """Two long lines from a little before the place where they begin to differ."""
    equal = next(
        (place for place, (a, b) in enumerate(zip(old, new, strict=False)) if a != b),
        min(len(old), len(new)),
    )
    if equal <= 2 * AROUND:
        return old, new
    start = equal - AROUND
    return f"…{old[start:]}", f"…{new[start:]}"


# --- what nobody can see -------------------------------------------------------------------------


def _unseen(found: Sequence[Why], screen: Screen) -> list[Line]:
    """Once for each checkpoint: what might have changed without anybody noticing."""
    by_name = {why.name: why.unseen for why in found if why.unseen}
    lines: list[Line] = []
    for name, things in by_name.items():
        lines += [[]] if not lines else []
        title = f"the fingerprint of {one_line(name)}'s code cannot see:"
        lines += _fitted([Piece(title, style.WARNING)], screen)
        for thing in things or ():
            lines += [[Piece("  "), *part] for part in _indented(one_line(thing), screen)]
    if by_name:
        remedy = 'where that matters, @checkpoint(version="2") decides instead'
        lines += _fitted([Piece(remedy, style.DIM)], screen)
    return lines


def _indented(text: str, screen: Screen) -> list[Line]:
    if not screen.drawn:
        return [[Piece(text)]]
    return folded([Piece(text)], screen.columns - 2)
