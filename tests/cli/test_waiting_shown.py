"""What executions wait for, as lines: in the list, of one execution, in the status."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from kitaru.cli.canvas import Line, Screen, painted
from kitaru.cli.findings import status_lines
from kitaru.cli.listing import Listed, drawn_lines, plain_lines
from kitaru.cli.showing import execution_lines
from kitaru.model import PendingWait
from kitaru.status import ExecutionStatus

from .test_doctor import standing
from .test_layouts import NOW, execution

EXEC_ID = "01a21484-f2f8-7bfe-bf3d-bcdc833782da"


def wait(**changes: Any) -> PendingWait:
    values: dict[str, Any] = {
        "wait_id": f"{EXEC_ID}:aabbccddeeff",
        "name": "approve",
        "question": "Publish these notes?",
        "schema": {"type": "boolean"},
        "metadata": {"draft": "# 1.2"},
        "entered_waiting_at": NOW - timedelta(minutes=3),
        "expires_at": NOW + timedelta(hours=2),
        "exec_id": EXEC_ID,
        "flow_name": "release",
    }
    return PendingWait(**{**values, **changes})


def text(lines: list[Line], columns: int = 100) -> str:
    return "\n".join(painted(line, Screen(columns=columns)).rstrip() for line in lines)


def waiting(*waits: PendingWait) -> Any:
    return execution(
        exec_id=EXEC_ID,
        status=ExecutionStatus.WAITING,
        ended_at=None,
        pending_wait=waits[0] if waits else None,
    )


def test_the_list_says_what_is_waited_for_and_how_to_answer() -> None:
    listed = Listed(waiting(wait()), 3, 0)
    shown = text(drawn_lines([listed], Screen(columns=100), NOW, absolute=False))
    assert shown.splitlines()[-1] == (
        "  waits for approve (3 min ago, until 2026-03-01 14:00:00Z)  "
        "kitaru executions input bcdc833782da"
    )
    card = text(drawn_lines([listed], Screen(columns=20), NOW, absolute=False))
    assert card.splitlines()[-1].startswith("  waits for approve")
    head, row = (painted(line, Screen()).split("\t") for line in plain_lines([listed]))
    assert row[head.index("waits_for")] == "approve"


def test_an_execution_shows_each_wait_with_what_is_wanted_since_and_until() -> None:
    waits = (wait(), wait(name="two words", question=None, schema=None, expires_at=None))
    screen = Screen(columns=100)
    shown = text(execution_lines(waiting(*waits), [], None, screen, NOW, waits))
    for part in (
        "◷ waiting",
        "approve",
        "Publish these notes?",
        "yes or no",
        "2026-03-01 11:57:00Z  (3 min ago)",
        "2026-03-01 14:00:00Z",
        "whether to go on",
        '{"draft": "# 1.2"}',
    ):
        assert part in shown
    last = shown.splitlines()[-1]
    assert last == (
        f"answer it: kitaru executions input {EXEC_ID} --wait approve --interactive"
        "   # or --value JSON"
    )


def test_what_waits_for_a_clock_says_how_it_goes_on_where_nobody_serves_it() -> None:
    shown = text(execution_lines(waiting(), [], None, Screen(columns=100), NOW, ()))
    assert shown.splitlines()[-1] == (
        f"it then goes on by itself; if no process serves it: kitaru executions resume {EXEC_ID}"
    )


def test_names_and_questions_cannot_write_to_the_terminal() -> None:
    evil = wait(name="a\x1b[31mb", question="x\x1b]0;t\x07", metadata={"k": "\x1b[2J"})
    listed = Listed(waiting(evil), 0, 0)
    screen = Screen(columns=100)
    lines = [
        *drawn_lines([listed], screen, NOW, absolute=False),
        *plain_lines([listed]),
        *execution_lines(waiting(evil), [], None, screen, NOW, (evil,)),
        *status_lines(standing(waits=[evil], now=NOW), screen),
    ]
    assert "\x1b" not in text(lines)


def test_very_many_waits_are_not_all_shown() -> None:
    waits = tuple(wait(name=f"w{number}") for number in range(50))
    shown = text(execution_lines(waiting(*waits), [], None, Screen(columns=100), NOW, waits))
    assert "and 30 more waits" in shown


def test_the_status_counts_what_is_waited_for_and_names_the_oldest() -> None:
    shown = text(status_lines(standing(waits=[wait(), wait()], now=NOW), Screen(columns=100)))
    assert "2 answers: release for approve, since 3 min" in shown
    assert "kitaru executions input --interactive" in shown
