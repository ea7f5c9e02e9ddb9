"""What the live view shows, without a terminal: events lead to a state, a state to lines."""

from __future__ import annotations

from typing import Any

import pytest

from kitaru._engine.events import LEVELS, Event
from kitaru.cli.canvas import columns_of
from kitaru.cli.lines import footer, lines_of, plain, summary
from kitaru.cli.live import PlainView
from kitaru.cli.output import Session
from kitaru.cli.progress import _APPLY, MAX_GROUPS, OTHERS, Progress


def event(name: str, checkpoint: str | None = None, call: str | None = None, **more: Any) -> Event:
    return Event(name, "01ab", "trip", checkpoint=checkpoint, call_id=call, **more)


class Told:
    """A progress that is told events, and a clock that stands still in between."""

    def __init__(self) -> None:
        self.now = 0.0
        self.progress = Progress(0.0)
        self._seq = 0

    def tell(self, name: str, checkpoint: str | None = None, call: str = "1", **more: Any) -> None:
        more.setdefault("attempt", 1)
        more.setdefault("seq", self._seq)
        self._seq += 1
        self.progress.add(event(name, checkpoint, f"{checkpoint}:{call}", **more), self.now)

    def ran(self, checkpoint: str, call: str = "1", **more: Any) -> None:
        self.tell("call.started", checkpoint, call, **more)
        self.tell("call.completed", checkpoint, call, source="ran", seconds=0.5, **more)

    def lines(self, columns: int = 80, rows: int = 20, unicode: bool = True) -> list[str]:
        found = lines_of(self.progress, columns=columns, rows=rows, now=self.now, unicode=unicode)
        return [plain(line) for line in found]

    def end(self, word: str = "completed") -> str:
        self.progress.add(event(f"execution.{word}"), self.now)
        return plain(summary(self.progress, word, now=self.now))


@pytest.fixture
def told() -> Told:
    return Told()


def test_every_event_of_calls_leads_somewhere() -> None:
    assert set(_APPLY) == {name for name in LEVELS if not name.startswith("execution.")}


def test_a_checkpoint_appears_ticks_and_finishes(told: Told) -> None:
    told.tell("call.started", "fetch")
    told.now = 1.26
    (line,) = told.lines()
    assert line == "⠹ fetch  1.3 s"
    told.tell("call.completed", "fetch", source="ran", seconds=1.5)
    assert told.lines() == ["✔ fetch  1.5 s"]
    told.now = 2.0
    assert told.end() == "✔ completed in 2.0 s · 1 ran"


def test_nested_calls_stand_below_the_one_that_called_them(told: Told) -> None:
    told.tell("call.started", "outer")
    told.ran("inner", parent_call_id="outer:1")
    told.tell("call.completed", "outer", seconds=1.0)
    told.ran("inner", call="2")
    assert told.lines() == ["✔ outer     1.0 s", "  ✔ inner  500 ms", "✔ inner    500 ms"]


def test_recalled_and_reused_say_so_and_what_they_saved(told: Told) -> None:
    told.tell("call.recalled", "plan", seconds=2.0, source="recalled")
    told.tell("call.reused", "fetch", seconds=3.5, source="reused", reason="reused from 01aa")
    assert told.lines() == ["↺ plan   2.0 s  recalled", "≡ fetch  3.5 s  reused from 01aa"]
    assert told.end() == "✔ completed in <1 ms · 1 recalled · 1 reused · 5.5 s saved"


def test_many_that_were_recalled_show_what_they_had_taken_together(told: Told) -> None:
    for number in range(3):
        told.tell("call.recalled", "fetch", str(number), seconds=1.5, source="recalled")
    assert told.lines() == ["↺ fetch  4.5 s  3 recalled"]


def test_many_that_were_reused_name_their_source_if_it_is_one(told: Told) -> None:
    for number in range(2):
        told.tell("call.reused", "fetch", str(number), seconds=1.0, reason="reused from 01aa")
    assert told.lines() == ["≡ fetch  2.0 s  2 reused from 01aa"]
    told.tell("call.reused", "fetch", "3", seconds=1.0, reason="reused from 01bb")
    assert told.lines() == ["≡ fetch  3.0 s  3 reused"]
    told.tell("call.reused", "fetch", "4", seconds=1.0, reason="reused from 01bb")
    assert told.lines() == ["≡ fetch  4.0 s  4 reused"]


def test_a_reuse_that_is_heard_of_late_stands_where_it_was_called(told: Told) -> None:
    told.ran("second", seq=1)
    told.tell("call.reused", "first", seq=0, seconds=1.0, reason="reused from 01aa")
    assert [line.split()[1] for line in told.lines()] == ["first", "second"]


def test_a_retry_counts_down_and_says_why(told: Told) -> None:
    told.tell("call.started", "charge")
    told.tell("call.retrying", "charge", delay_seconds=4.0, reason="OSError: gone", seconds=0.1)
    told.now = 1.5
    assert told.lines() == ["↻ charge  1.5 s  attempt 2 in 2.5 s · OSError: gone"]
    told.now = 9.0
    assert "attempt 2 in 0.0 s" in told.lines()[0]
    told.tell("call.started", "charge", attempt=2)
    assert told.lines()[0].startswith(("⠋ charge", "⠙ charge"))
    told.tell("call.completed", "charge", attempt=2, seconds=0.2)
    assert told.lines() == ["✔ charge  200 ms  attempt 2"]


def test_a_failure_shows_its_reason_on_one_line(told: Told) -> None:
    told.tell("call.started", "charge")
    told.tell("call.failed", "charge", reason="ValueError: two\nlines \x1b[31m", seconds=0.1)
    (line,) = told.lines()
    assert line == "✘ charge  100 ms  ValueError: two lines \\x1b[31m"
    assert told.end("failed") == "✘ failed in <1 ms · 1 failed"


def test_a_drift_is_shown_with_the_argument_that_changed(told: Told) -> None:
    told.tell("call.drifted", "fetch", reason="at changed: it runs again")
    told.ran("fetch")
    assert told.lines() == ["✔ fetch  500 ms  drifted: at changed: it runs again"]
    assert told.end().endswith("1 ran · 1 drifted")


def test_what_the_caller_cancelled_is_no_longer_running(told: Told) -> None:
    told.tell("call.started", "slow")
    told.tell("call.abandoned", "slow")
    assert told.lines() == ["⊘ slow  <1 ms  cancelled by its caller"]


def test_many_items_are_one_bar_with_counts_a_rate_and_what_is_left(told: Told) -> None:
    told.tell("calls.submitted", "item", calls=1_000)
    for number in range(250):
        told.ran("item", str(number))
        told.now += 0.01
        told.progress.mark(told.now)
    told.tell("call.failed", "item", "250", reason="ValueError: bad")
    (line,) = told.lines(columns=110)
    assert line.endswith(
        "━━━━━━──────────────────  251/1,000  102/s  7.0 s left · 1 failed · ValueError: bad"
    )
    assert line.count("\n") == 0


def test_a_hundred_thousand_items_are_one_line_and_little_memory(told: Told) -> None:
    told.tell("calls.submitted", "item", calls=100_000)
    for number in range(100_000):
        told.ran("item", str(number))
    assert told.lines() == ["✔ item  <1 ms  100,000 ran"]
    (group,) = told.progress.groups()
    assert not group.running
    assert not told.progress._where


def test_items_that_were_not_started_are_counted(told: Told) -> None:
    told.tell("calls.submitted", "item", calls=10)
    told.tell("call.failed", "item", "1", reason="ValueError: bad")
    told.tell("calls.not_started", "item", calls=9, reason="item 0 failed")
    assert told.lines() == ["✘ item  <1 ms  1 failed · 9 not started · ValueError: bad"]


def test_checkpoints_beyond_a_bound_are_counted_together(told: Told) -> None:
    for number in range(MAX_GROUPS + 50):
        told.ran(f"step {number}")
    groups = list(told.progress.groups())
    assert len(groups) == MAX_GROUPS + 1
    assert (groups[-1].name, groups[-1].ran) == (OTHERS, 50)


def test_more_checkpoints_than_rows_keep_those_at_work_and_the_newest(told: Told) -> None:
    told.tell("call.started", "first")
    for number in range(30):
        told.ran(f"step {number}")
    lines = told.lines(rows=6)
    assert lines[0] == "  … 26 more checkpoints"
    assert [line.split()[1] for line in lines[1:]] == ["first", "step", "step", "step", "step"]
    assert "step 29" in lines[-1]


def test_another_try_of_the_flow_begins_anew_and_the_sums_go_on(told: Told) -> None:
    told.ran("fetch")
    told.progress.add(event("execution.retrying", attempt=1), told.now)
    assert told.lines() == []
    assert "attempt 2" in plain(footer(told.progress, now=told.now))
    told.tell("call.recalled", "fetch", seconds=0.5)
    assert told.end() == "✔ completed in <1 ms · 1 ran · 1 recalled · 500 ms saved"


def test_an_end_with_bodies_under_way_shows_them_interrupted(told: Told) -> None:
    told.tell("call.started", "slow")
    told.progress.end("interrupted")
    assert told.lines()[0].startswith("◐ slow")


@pytest.mark.parametrize("columns", [20, 40, 80, 120, 400])
@pytest.mark.parametrize("name", ["fetch", "日本語の長い名前" * 9, "e\u0301" * 80, "x" * 200])
def test_names_of_any_kind_are_cut_and_stay_in_their_column(
    told: Told, columns: int, name: str
) -> None:
    told.ran(name)
    told.ran("other")
    first, second = told.lines(columns=columns)
    assert columns_of(first[: first.index("500 ms")]) == columns_of(
        second[: second.index("500 ms")]
    )


def test_without_unicode_every_line_is_ascii(told: Told) -> None:
    told.tell("calls.submitted", "item", calls=5)
    told.ran("item", "1")
    told.tell("call.started", "item", "2")
    told.tell("call.retrying", "item", "2", delay_seconds=1, reason="OSError: gone")
    told.tell("call.recalled", "plan", seconds=1.0)
    lines = told.lines(unicode=False)
    assert "".join(lines).isascii()
    assert any("####" in line for line in lines)
    assert plain(footer(told.progress, now=1.0, unicode=False)).isascii()
    assert plain(summary(told.progress, "completed", now=1.0, unicode=False)).isascii()


# --- plain lines -------------------------------------------------------------------------


@pytest.fixture
def plain_view() -> PlainView:
    view = PlainView(Session())
    view.follow("01ab")
    return view


def test_plain_lines_tell_how_far_what_is_at_work_has_come(
    plain_view: PlainView, capsys: pytest.CaptureFixture[str]
) -> None:
    plain_view.take(event("calls.submitted", "item", calls=1_000))
    for number in range(3):
        plain_view.take(event("call.started", "item", str(number)))
        plain_view.take(event("call.completed", "item", str(number), seconds=0.1))
    plain_view.take(event("call.started", "other", "x"))
    plain_view._tell_progress()
    assert capsys.readouterr().err == ("kitaru: running for <1 ms, 3 ran (item 3/1,000; other)\n")


def test_plain_lines_say_once_what_is_waited_for(
    plain_view: PlainView, capsys: pytest.CaptureFixture[str]
) -> None:
    plain_view.take(event("execution.waiting", reason="waits for input 'approve'"))
    plain_view._tell_news()
    assert capsys.readouterr().err == "kitaru: it waits for input 'approve'\n"
    plain_view._tell_progress()
    assert capsys.readouterr().err == ""
    plain_view.take(event("execution.claimed"))
    plain_view.take(event("call.started", "publish", "x"))
    plain_view._tell_progress()
    assert "publish" in capsys.readouterr().err


def test_plain_lines_name_each_checkpoint_once_and_some_failures(
    plain_view: PlainView, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(100):
        plain_view.take(event("call.started", "item", str(number)))
        plain_view.take(event("call.failed", "item", str(number), reason=f"OSError: {number}"))
    plain_view.take(event("call.recalled", "plan", "x", seconds=2.0, source="recalled"))
    plain_view.close("failed")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["kitaru: item: started", "kitaru: item failed: OSError: 0"]
    assert lines[21:23] == [
        "kitaru: more calls failed; from here on they are only counted",
        "kitaru: plan: recalled, 2.0 s saved",
    ]
    assert lines[23:] == ["kitaru: failed in <1 ms, 1 recalled, 100 failed, 2.0 s saved"]


def test_executions_that_are_not_followed_are_not_shown(
    plain_view: PlainView, capsys: pytest.CaptureFixture[str]
) -> None:
    plain_view.take(event("call.started", "item", "x")._replace(exec_id="01ff"))
    plain_view.close("completed")
    assert capsys.readouterr().err == ""


def test_a_view_that_is_closed_twice_says_it_once(
    plain_view: PlainView, capsys: pytest.CaptureFixture[str]
) -> None:
    plain_view.take(event("execution.completed"))
    plain_view.close("completed")
    plain_view.close("failed")
    assert capsys.readouterr().err == "kitaru: completed in <1 ms\n"


def test_one_that_is_told_to_stop_says_who_cancelled_it_and_shows_what_still_runs(
    told: Told,
) -> None:
    told.tell("call.started", "charge")
    told.tell("execution.cancelling", reason="cancelled by ada@host: too dear")
    (line,) = told.lines()
    assert "charge" in line
    assert "cancelled" not in line
    shown = plain(footer(told.progress, now=told.now))
    assert shown.startswith("◌ stopping: cancelled by ada@host: too dear")
    assert told.end("cancelled").startswith("⊘ cancelled")


# --- parked ------------------------------------------------------------------------------------


def test_a_parked_execution_says_what_for_and_since_when(told: Told) -> None:
    told.tell("execution.started")
    told.tell("execution.waiting", reason="waits for input 'approve'")
    told.now = 3.0
    line = plain(footer(told.progress, now=told.now))
    assert line == "◷ waits for input 'approve' · for 3.0 s"
    told.tell("execution.claimed")
    assert "waits" not in plain(footer(told.progress, now=told.now))


def test_what_is_recalled_after_parking_here_was_shown_before(told: Told) -> None:
    told.tell("execution.started")
    told.tell("calls.submitted", "price", calls=2)
    for number in "12":
        told.ran("price", number)
    told.tell("execution.waiting", reason="sleeps")
    told.tell("execution.claimed")
    told.tell("calls.submitted", "price", calls=3)
    for number in "12":
        told.tell("call.recalled", "price", number)
    told.tell("call.recalled", "elsewhere", "9")
    price, elsewhere = told.progress.groups()
    assert (price.ran, price.recalled, price.done, price.total) == (2, 0, 2, 3)
    assert elsewhere.recalled == 1
    told.ran("price", "3")
    assert (told.progress.totals.ran, told.progress.totals.recalled) == (3, 1)
    assert not price.is_active


# --- executions inside this one ----------------------------------------------------------


def _of_child(
    told: Told, name: str, child: str, checkpoint: str | None = None, **more: Any
) -> None:
    happened = Event(name, child, "leg", checkpoint=checkpoint, **more)
    told.progress.add(happened, told.now, of_child=True)


def test_a_child_execution_stands_below_what_started_it_with_its_own_calls(told: Told) -> None:
    told.tell("call.started", "plan")
    _of_child(told, "execution.started", "c1", parent_exec_id="01ab", parent_call_id="plan:1")
    _of_child(told, "call.started", "c1", "drive", call_id="c1:1")
    told.now = 2.0
    assert [line.strip().split("  ")[0] for line in told.lines(unicode=False)] == [
        "| plan",
        "| flow leg",
        "| drive",
    ]
    _of_child(told, "call.completed", "c1", "drive", call_id="c1:1", source="ran", seconds=2.0)
    _of_child(told, "execution.completed", "c1", parent_exec_id="01ab", parent_call_id="plan:1")
    groups = {group.name: group for group in told.progress.groups()}
    assert (groups["flow leg"].ran, groups["flow leg"].is_active) == (1, False)
    assert [groups[name].depth for name in ("plan", "flow leg", "drive")] == [0, 1, 2]
    assert told.progress.ended is None


def test_many_children_of_one_flow_are_one_line_and_grandchildren_stand_below(told: Told) -> None:
    for number in range(20):
        _of_child(told, "execution.started", f"c{number}", parent_exec_id="01ab")
        _of_child(told, "execution.queued", f"g{number}", parent_exec_id=f"c{number}")
    names = [group.name for group in told.progress.groups()]
    assert names == ["flow leg", "flow leg"]
    _of_child(told, "execution.failed", "c3", parent_exec_id="01ab", reason="no road")
    group = next(told.progress.groups())
    assert (group.failed, group.why, len(group.running)) == (1, "no road", 19)
    _of_child(told, "execution.retrying", "c3", parent_exec_id="01ab")
    assert (group.failed, len(group.running)) == (0, 20)


def test_what_a_replay_takes_over_or_is_given_says_so(told: Told) -> None:
    told.tell("call.carried", "plan", seconds=2.0, source="carried")
    told.tell("call.overridden", "draft", source="override")
    assert told.lines() == ["↷ plan   2.0 s  carried", "✎ draft  <1 ms  override"]
    assert told.end() == "✔ completed in <1 ms · 1 carried · 1 override · 2.0 s saved"
