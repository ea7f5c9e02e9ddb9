"""Every transition is told once, with its ids, and only when what it says is durable."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import app, checkpoint, flow
from kitaru._core.lifecycle import CallState, State
from kitaru._engine.draining import drain
from kitaru._engine.events import LEVELS, Event, of_write
from kitaru._engine.listeners import logger
from kitaru._store.protocol import NO_FACTS, Claim, Release

from .looking import PATIENCE_SECONDS, Gate, calls, execution, retry

BROKEN = {"fetch": False}
ROUND = {"number": 0}
GATE: list[Gate] = []
STUBBORN = {"first": True}


@checkpoint(cache=False)
def fetch(number: int) -> int:
    if BROKEN["fetch"]:
        raise ConnectionError("no route")
    return number


@checkpoint
def known(number: int) -> int:
    return number


@checkpoint(cache=False, retries=kitaru.Retry(max_attempts=2, initial_seconds=0, jitter=False))
def flaky(log: list[int]) -> int:
    if kitaru.current().attempt == 1:
        raise ConnectionError("once")
    return 1


@checkpoint(cache=False)
def outer(number: int) -> int:
    return fetch(number) + 1


@checkpoint(cache=False)
async def slow(number: int) -> int:
    return number


@checkpoint(cache=False)
def waits_at_the_gate() -> None:
    GATE[-1].pass_through()


@flow
def gated() -> None:
    waits_at_the_gate()


@flow(retries=1)
def stubborn() -> int:
    if STUBBORN.pop("first", False):
        raise ValueError("once")
    return 1


@checkpoint(cache=False)
async def endless() -> None:
    await asyncio.Event().wait()


@flow
async def impatient() -> str:
    try:
        await asyncio.wait_for(endless(), 0.01)
    except TimeoutError:
        return "too slow"
    return "quick"


@flow
def plain() -> int:
    return fetch(1)


@flow
async def fan() -> int:
    return sum([await each for each in slow.map([1, 2, 3])])


@flow
def nested() -> int:
    return outer(1)


@flow
def tries() -> int:
    return flaky([])


@flow
def reuses() -> int:
    return known(1)


@flow
def drifts() -> int:
    found = known(10 + ROUND["number"])
    return found + fetch(2)


@flow
def maps() -> list[int]:
    return fetch.map([1, 2, 3, 4], concurrency=1).results()


@pytest.fixture(autouse=True)
def mended() -> None:
    BROKEN["fetch"] = False
    ROUND["number"] = 0


@pytest.fixture
def told(store: Path) -> Iterator[list[Event]]:
    """What is told from here on; each event is held against the store as it comes."""
    events: list[Event] = []

    def listen(event: Event) -> None:
        assert_recorded(event)
        events.append(event)

    end = app.current().services.events.listen(listen)
    yield events
    end()


def assert_recorded(event: Event) -> None:
    row = execution(event.exec_id)
    recorded = {(call.identity.hex()[:12], call.attempt): call for call in calls(event.exec_id)}
    if event.name in ("call.completed", "call.reused", "call.failed", "call.retrying"):
        assert event.call_id is not None
        call = recorded[event.call_id.rpartition(":")[2], event.attempt]
        assert (call.state is CallState.COMPLETED) == (
            event.name in ("call.completed", "call.reused")
        )
    if event.name in ("execution.completed", "execution.failed"):
        assert event.name.endswith(row.status)
    if event.name in ("call.drifted", "calls.not_started"):
        kinds = [note.kind for note in app.current().store.list_notes(row.id)]
        assert event.name.partition(".")[2].replace("drifted", "drift") in kinds


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events]


def test_a_run_tells_its_transitions_in_order_and_with_its_ids(told: list[Event]) -> None:
    handle = plain.run()
    handle.wait()
    assert names(told) == [
        "execution.started", "call.started", "call.completed", "execution.completed",
    ]  # fmt: skip
    assert {event.exec_id for event in told} == {handle.exec_id}
    assert {event.flow for event in told} == {"plain"}
    call = told[2]
    assert (call.checkpoint, call.attempt, call.seq, call.source) == ("fetch", 1, 0, "ran")
    assert call.seconds is not None
    assert told[1].call_id == call.call_id
    (recorded,) = kitaru.KitaruClient().executions.list_checkpoints(handle.exec_id)
    assert recorded.call_id == call.call_id


def test_an_async_map_tells_how_many_were_submitted_and_each_outcome(told: list[Event]) -> None:
    fan.run().wait()
    submitted = next(event for event in told if event.name == "calls.submitted")
    assert (submitted.checkpoint, submitted.calls) == ("slow", 3)
    assert names(told).count("call.started") == names(told).count("call.completed") == 3


def test_a_nested_call_names_its_parent(told: list[Event]) -> None:
    nested.run().wait()
    first, second = (event for event in told if event.name == "call.started")
    assert (first.checkpoint, second.checkpoint) == ("outer", "fetch")
    assert (first.parent_call_id, second.parent_call_id) == (None, first.call_id)


def test_a_failed_try_tells_why_and_when_it_is_tried_again(told: list[Event]) -> None:
    tries.run().wait()
    assert names(told)[1:-1] == [
        "call.started", "call.retrying", "call.started", "call.completed",
    ]  # fmt: skip
    retrying = told[2]
    assert (retrying.reason, retrying.attempt) == ("ConnectionError: once", 1)
    assert retrying.delay_seconds == 0
    assert [event.attempt for event in told[3:5]] == [2, 2]


def test_a_retry_recalls_what_stays_and_tells_how_long_it_had_taken(told: list[Event]) -> None:
    BROKEN["fetch"] = True
    handle = drifts.run()
    with pytest.raises(kitaru.KitaruUserCodeError):
        handle.wait()
    assert names(told)[-2:] == ["call.failed", "execution.failed"]
    assert told[-1].reason == "checkpoint 'fetch' failed: ConnectionError: no route"
    BROKEN["fetch"] = False
    del told[:]
    retry(drifts, handle.exec_id).wait()
    assert names(told) == [
        "execution.claimed", "call.recalled", "call.started", "call.completed",
        "execution.completed",
    ]  # fmt: skip
    recalled = told[1]
    row = next(call for call in calls(handle.exec_id) if call.checkpoint.endswith("known"))
    assert recalled.seconds == (row.ended_at - row.started_at) / 1e6
    assert (recalled.source, told[3].attempt) == ("recalled", 2)


def test_a_reuse_is_told_with_what_it_saved_once_its_copy_is_recorded(told: list[Event]) -> None:
    first = reuses.run()
    first.wait()
    (source,) = calls(first.exec_id)
    del told[:]
    reuses.run().wait()
    assert names(told) == ["execution.started", "call.reused", "execution.completed"]
    reused = told[1]
    assert reused.seconds == (source.ended_at - source.started_at) / 1e6
    assert reused.reason == f"reused from {first.exec_id}"


def test_a_drift_is_told_of_the_call_that_drifted(told: list[Event]) -> None:
    BROKEN["fetch"] = True
    handle = drifts.run()
    with pytest.raises(kitaru.KitaruUserCodeError):
        handle.wait()
    BROKEN["fetch"], ROUND["number"] = False, 1
    retry(drifts, handle.exec_id).wait()
    (drift,) = (event for event in told if event.name == "call.drifted")
    assert (drift.checkpoint, drift.reason) == ("known", "number changed: it runs again")
    assert names(told).index("call.drifted") < len(told) - 1


def test_items_of_a_map_that_do_not_start_are_told_of(told: list[Event]) -> None:
    BROKEN["fetch"] = True
    with pytest.raises(kitaru.KitaruUserCodeError):
        maps.run().wait()
    (left,) = (event for event in told if event.name == "calls.not_started")
    assert (left.checkpoint, left.calls) == ("fetch", 3)


def test_a_hand_back_is_told(told: list[Event]) -> None:
    GATE.append(Gate())
    handle = gated.run()
    GATE[-1].wait_until_reached()
    drain(app.current().runner, 0)
    assert names(told)[-1] == "execution.handed_back"
    assert execution(handle.exec_id).status is State.PENDING
    GATE[-1].open()


def test_an_execution_that_is_taken_away_is_told_as_lost(told: list[Event]) -> None:
    GATE.append(Gate())
    handle = gated.run()
    GATE[-1].wait_until_reached()
    row = execution(handle.exec_id)
    store = app.current().store
    store.apply(Release(row.id, row.epoch, NO_FACTS, app.current().env.now()))
    GATE[-1].open()
    assert app.current().runner.wait_idle(PATIENCE_SECONDS)
    assert names(told)[-1] == "execution.lost"
    assert "call.completed" not in names(told)


def test_a_retry_that_somebody_asks_for_is_told(told: list[Event]) -> None:
    BROKEN["fetch"] = True
    handle = plain.run()
    with pytest.raises(kitaru.KitaruUserCodeError):
        handle.wait()
    BROKEN["fetch"] = False
    del told[:]
    kitaru.KitaruClient().executions.retry(handle.exec_id).wait()
    assert [(event.name, event.attempt) for event in told if event.checkpoint is None] == [
        ("execution.retrying", 2),
        ("execution.claimed", 2),
        ("execution.completed", 2),
    ]


def test_a_flow_that_is_tried_again_by_itself_says_why(told: list[Event]) -> None:
    stubborn.run().wait()
    (retrying,) = (event for event in told if event.name == "execution.retrying")
    assert (retrying.attempt, retrying.reason) == (1, "ValueError: once")


def test_a_body_that_its_caller_cancels_is_told_of(told: list[Event]) -> None:
    assert impatient.run().wait() == "too slow"
    (event,) = (event for event in told if event.name == "call.abandoned")
    assert event.checkpoint == "endless"
    assert event.call_id in {each.call_id for each in told if each.name == "call.started"}


def test_a_takeover_says_from_whom(store: Path) -> None:
    handle = plain.run()
    handle.wait()
    row = execution(handle.exec_id)
    (event,) = of_write(row, Claim(row.id, 1, 2, 7, 0), row)
    assert (event.name, event.level) == ("execution.taken_over", logging.WARNING)
    assert event.reason == "the process that ran it (owner 7) had died"


def test_a_listener_that_raises_costs_the_flow_nothing(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(event: Event) -> None:
        raise ValueError("listener broke")

    end = app.current().services.events.listen(broken)
    assert plain.run().wait() == 1
    end()
    assert capsys.readouterr().err.count("listener broke") == 1


def test_who_stopped_listening_hears_nothing_more(told: list[Event]) -> None:
    heard: list[Event] = []
    end = app.current().services.events.listen(heard.append)
    plain.run().wait()
    count = len(heard)
    end()
    plain.run().wait()
    assert (len(heard), len(told)) == (count, 2 * count)


# --- the logger -----------------------------------------------------------------------------


def test_each_event_is_one_record_with_its_ids_as_attributes(
    store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="kitaru")
    handle = plain.run()
    handle.wait()
    records: list[Any] = [record for record in caplog.records if record.name == "kitaru"]
    assert [(record.event, record.levelname) for record in records] == [
        ("execution.started", "INFO"),
        ("call.started", "DEBUG"),
        ("call.completed", "DEBUG"),
        ("execution.completed", "INFO"),
    ]
    assert {record.exec_id for record in records} == {handle.exec_id}
    assert {record.flow for record in records} == {"plain"}
    assert (records[2].checkpoint, records[2].source) == ("fetch", "ran")
    assert records[0].call_id is None
    assert "checkpoint fetch completed in" in records[2].getMessage()


@checkpoint
def strange() -> None:
    raise ValueError("two\nlines \x1b[31m \udcff")


@flow
def strangely() -> None:
    strange()


def test_a_record_is_one_line_that_can_be_written_anywhere(
    store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(kitaru.KitaruUserCodeError):
        strangely.run().wait()
    (failed, ended) = (record for record in caplog.records if record.name == "kitaru")
    for record in (failed, ended):
        assert "two\\nlines \\x1b[31m" in record.getMessage()
        record.getMessage().encode()
        record.reason.encode()  # type: ignore[attr-defined]


def test_at_info_calls_that_go_well_are_not_logged_and_failures_are(
    store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kitaru")
    tries.run().wait()
    events = [record.event for record in caplog.records if record.name == "kitaru"]  # type: ignore[attr-defined]
    assert events == ["execution.started", "call.retrying", "execution.completed"]


def test_where_no_logging_is_set_up_nobody_listens(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logger, "propagate", False)
    events = app.current().services.events
    plain.run().wait()
    assert not events.active
    handler = logging.Handler()
    handler.emit = lambda record: None  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        plain.run().wait()
        assert events.active
    finally:
        logger.removeHandler(handler)


def test_every_event_has_a_level_and_words() -> None:
    for name in LEVELS:
        event = Event(name, "01ab", "trip", checkpoint="fetch", calls=2, reason="because")
        assert event.words().startswith("execution 01ab of flow trip")
        assert event.words().endswith(": because")


PROGRAM = """
from kitaru import Retry, checkpoint, flow

@checkpoint(retries=Retry(max_attempts=2, initial_seconds=0.001))
def flaky(log):
    import kitaru
    if kitaru.current().attempt == 1:
        raise ConnectionError("once")

@flow
def tries():
    flaky([])

if __name__ == "__main__":
    tries.run().wait()
"""


def test_a_program_without_logging_sees_the_notice_and_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py")]
    environment = {"KITARU_STORE": str(tmp_path / "store"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    about = [line for line in done.stderr.splitlines() if "flaky" in line]
    assert len(about) == 1
    assert about[0].startswith("kitaru: checkpoint 'flaky' failed")


def test_the_documentation_lists_every_event_with_its_level() -> None:
    text = (Path(__file__).parents[2] / "docs" / "logging.md").read_text()
    rows = re.findall(r"^\| `(\w+\.\w+)` \| (\w+) \|", text, re.M)
    assert dict(rows) == {name: logging.getLevelName(level) for name, level in LEVELS.items()}
    fields = re.search(r"FIELDS = \((.*?)\)", text, re.S)
    assert fields is not None
    assert set(re.findall(r'"(\w+)"', fields[1])) == {"event", *Event._fields[1:]}
