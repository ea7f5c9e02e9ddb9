"""``executions plan``: what would become of each recorded call, as lines and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from kitaru.cli import style
from kitaru.cli.arguments import read_inputs, read_overrides
from kitaru.cli.canvas import Line, Piece, Screen, folded, one_line, screen_of, write
from kitaru.cli.output import Session
from kitaru.cli.place import insist_on_store
from kitaru.cli.running import import_flow
from kitaru.cli.shown import as_data
from kitaru.cli.times import lasted
from kitaru.client import KitaruClient
from kitaru.errors import KitaruError
from kitaru.plans import Plan, PlannedCall

FOLD_ABOVE = 8

_WORDS = {
    "recall": ("recalled", "is recalled"),
    "carry": ("carried", "is carried over"),
    "override": ("override", "is given"),
    "run": ("retrying", "runs anew"),
    "perhaps": ("drifted", "may run anew"),
    "orphan": ("not started", "is orphaned"),
}
"""Action -> (whose look it has, what it says)."""


def show_plan(
    session: Session,
    exec_id: str,
    *,
    code: str | None,
    for_: str | None,
    from_: str | None,
    as_json: str | None,
    overrides: str | None,
) -> None:
    insist_on_store()
    executions = KitaruClient().executions
    row = executions.find_row(exec_id)
    inputs = {}
    try:
        flow = import_flow(session, row, code)
        inputs = read_inputs(flow, as_json)
    except KitaruError as error:
        if code is not None or as_json is not None:
            raise
        session.progress(f"without today's code: {error}")
    given = read_overrides(overrides, executions.list_checkpoints(row.exec_id))
    plan = executions.plan(row.exec_id, for_=for_, from_=from_, overrides=given, **inputs)
    if session.as_json:
        session.item(as_data(plan))
        return
    screen = screen_of(sys.stdout)
    write(plan_lines(plan, screen), screen)


def plan_lines(plan: Plan, screen: Screen) -> list[Line]:
    start = "" if plan.from_ is None else f" from {one_line(plan.from_)}"
    head: Line = [
        Piece(f"{plan.verb} of {plan.flow_name} {plan.exec_id}{start}", style.HEADING),
        Piece(f"  ({plan.status})", style.DIM),
    ]
    lines = _fitted(head, screen)
    for same in _alike(plan.calls, fold=screen.drawn):
        lines += _fitted(_call(same, screen), screen)
    lines += [[]] if plan.calls else []
    for action, count in plan.counts.items():
        lines += _fitted(_sum(plan, action, count), screen)
    for note in plan.notes:
        lines += _fitted([Piece(one_line(note), style.DIM)], screen)
    return lines


def _alike(calls: Sequence[PlannedCall], *, fold: bool) -> list[list[PlannedCall]]:
    """Calls of one checkpoint with one fate, together where they are many."""
    groups: dict[tuple[object, ...], list[PlannedCall]] = {}
    for call in calls:
        groups.setdefault((call.name, call.action, call.reason, call.changed), []).append(call)
    found: list[list[PlannedCall]] = []
    for call in calls:
        same = groups[call.name, call.action, call.reason, call.changed]
        if not fold or len(same) <= FOLD_ABOVE:
            found.append([call])
        elif same[0] is call:
            found.append(same)
    return found


def _call(same: Sequence[PlannedCall], screen: Screen) -> Line:
    call = same[0]
    look, says = _WORDS[call.action]
    count = f" ×{len(same):,}" if len(same) > 1 else f" #{call.seq}"
    line: Line = [
        Piece(f"{screen.symbol(look)} ", style.look_of(look).style),
        Piece(one_line(call.name) + count, style.HEADING),
        Piece(f"  {says}", style.look_of(look).style),
        Piece(f": {one_line(call.reason)}"),
    ]
    if call.code == "changed":
        names = ", ".join(map(one_line, call.changed)) or "its code"
        line.append(Piece(f"  code changed: {names}", style.WARNING))
    elif call.code == "unknown":
        line.append(Piece("  its code is not compared", style.DIM))
    costs = _costs(call.costs) if len(same) == 1 else ""
    if costs and call.action in ("run", "perhaps"):
        line.append(Piece(f"  {costs} the last time", style.DIM))
    return line


def _sum(plan: Plan, action: str, count: int) -> Line:
    look, says = _WORDS[action]
    says = says.removeprefix("is ")
    parts = [f"{count:,} {says}", f"{lasted(plan.seconds[action])} of bodies"]
    if costs := _costs(plan.costs.get(action, {})):
        parts.append(costs)
    return [Piece(", ".join(parts), style.look_of(look).style)]


def _costs(costs: Mapping[str, float]) -> str:
    return ", ".join(f"{one_line(name)} {_number(value)}" for name, value in costs.items())


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}".rstrip("0").rstrip(".")


def _fitted(line: Line, screen: Screen) -> list[Line]:
    return folded(line, screen.columns) if screen.drawn else [line]
