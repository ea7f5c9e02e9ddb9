"""``executions plan --all-live``: unfinished executions against the code that is to be deployed."""

from __future__ import annotations

import sys
from collections import Counter

from kitaru.cli import style
from kitaru.cli.canvas import Line, Piece, Screen, folded, one_line, screen_of, write
from kitaru.cli.output import Session, cleaned
from kitaru.cli.place import insist_on_store
from kitaru.cli.running import import_flow
from kitaru.cli.shown import as_data
from kitaru.client import KitaruClient
from kitaru.importing import said_folder
from kitaru.plans import LivePlan

_LOOKS = {"fine": "completed", "runs anew": "drifted", "stops": "failed"}
_COUNTED = {
    "recall": "recalled",
    "run": "tried again",
    "drift": "drifted",
    "orphan": "orphaned",
}


def show_live_plans(session: Session, *, flow: str | None, code: str | None) -> int:
    """-> the exit code: 1 if an execution would not go on."""
    insist_on_store()
    if code is not None:
        said_folder(code)  # a slip must not pass where nothing is unfinished
    plans = KitaruClient().executions.plan_live(
        flow=flow, code=lambda row: import_flow(session, row, code).spec
    )
    verdicts: Counter[str] = Counter()
    items = []
    screen = screen_of(sys.stdout)
    for plan in plans:
        verdicts[plan.verdict] += 1
        if session.as_json:
            items.append(as_data(plan))
        else:
            write(plan_lines(plan, screen), screen)  # one after the other: there may be many
    if session.as_json:
        session.items(items)
    else:
        session.progress(_summary(verdicts))
    return 1 if verdicts["stops"] else 0


def plan_lines(plan: LivePlan, screen: Screen) -> list[Line]:
    if not screen.drawn:
        counts = [str(plan.counts.get(action, 0)) for action in _COUNTED]
        cells = [plan.verdict, plan.exec_id, one_line(plan.flow_name), plan.status.value, *counts]
        problems = [f"  {one_line(text)}" for text in plan.problems]
        return [[Piece(text)] for text in ("\t".join(cells), *problems)]
    look = _LOOKS[plan.verdict]
    counted = ", ".join(f"{plan.counts[a]:,} {word}" for a, word in _COUNTED.items()
                        if plan.counts.get(a))  # fmt: skip
    head: Line = [
        Piece(f"{screen.symbol(look)} {plan.verdict}", style.look_of(look).style),
        Piece(f"  {one_line(plan.flow_name)} ", style.HEADING),
        Piece(f"{plan.exec_id} ({plan.status})  ", style.DIM),
        Piece(counted or "nothing is recorded yet"),
    ]
    lines = folded(head, screen.columns)
    for text in plan.problems:
        lines += folded([Piece(f"  {cleaned(one_line(text))}", style.WARNING)], screen.columns)
    return lines


def _summary(verdicts: Counter[str]) -> str:
    if not verdicts:
        return "no execution is unfinished: nothing to hold against this code"
    said = ", ".join(f"{count:,} {verdict}" for verdict, count in verdicts.most_common())
    count = sum(verdicts.values())
    return f"{count:,} unfinished execution{'' if count == 1 else 's'}: {said}"
