"""A program that ends while its database is away: it waits, or it says what it leaves behind."""

from __future__ import annotations

import signal

import pytest

from kitaru import app

from . import flows
from .conftest import Line
from .flows import HANG_SECONDS, noted, open_gate, until

pytestmark = pytest.mark.slow


def test_a_program_that_ends_by_itself_waits_until_what_it_holds_is_recorded(line: Line) -> None:
    other = line.other(line.through(), "h")
    until(lambda: noted("begun h"))
    with line.away():
        open_gate("h")
        until(lambda: noted("ended h"))
        assert other.stdin is not None
        other.stdin.close()  # its main function returns
        until(lambda: other.stderr is not None and "the store is away" in other.stderr.readline())
        assert other.poll() is None
        assert noted("after h") == []
    assert other.wait(HANG_SECONDS) == 0
    assert noted("after h") == [other.pid]
    assert line.ask("select status, epoch from kitaru.executions") == [("completed", 1)]


@pytest.mark.usefixtures("short_lease")
@pytest.mark.parametrize("by", ["its bound", "Ctrl-C"])
def test_one_that_may_not_wait_says_so_and_others_go_on_once_its_lease_is_over(
    line: Line, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "its bound":
        monkeypatch.setenv("KITARU_AT_EXIT_SECONDS", "1")
    other = line.other(line.through(), "h")
    until(lambda: noted("begun h"))
    with line.away():
        open_gate("h")
        until(lambda: noted("ended h"))
        if by == "Ctrl-C":
            other.send_signal(signal.SIGINT)
        _, said = other.communicate(timeout=HANG_SECONDS)
        assert "could not be handed back, because the store is away" in said
    theirs = flows.plain.options(key="theirs").run("h")
    assert theirs.wait(timeout=HANG_SECONDS)[-1] == "after h"
    assert len(noted("begun h")) == 2  # what had not been recorded ran again, and nothing else
    assert len(noted("after h")) == 1
    row = app.current().store.find_execution(theirs.exec_id)
    assert row is not None
    assert row.epoch == 2
