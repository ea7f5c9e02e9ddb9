"""The database goes while executions run, and comes back: a real server, and real errors.

What is held, what is refused, who owns what afterwards and what is said. How a store
behind a network is asked at all is tested over an injected one
(``tests/engine/test_over_a_network.py``).
"""

from __future__ import annotations

import threading
from typing import Any

import pytest

import kitaru
from kitaru import app
from kitaru._core.values import encode
from kitaru._store.protocol import Answer, Cancel
from kitaru.client import KitaruClient
from kitaru.errors import (
    KitaruBackendError,
    KitaruCancelledError,
    KitaruTimeoutError,
    KitaruUserCodeError,
)

from . import flows
from .conftest import Line
from .flows import HANG_SECONDS, noted, open_gate, until

pytestmark = pytest.mark.slow

HOW = ["cut", "fast", "immediate"]


def statuses(handle: kitaru.FlowHandle[Any]) -> tuple[str, int]:
    """What is recorded of it: its status, and how many outcomes."""
    store = app.current().store
    row = store.find_execution(handle.exec_id)
    assert row is not None
    return row.status.value, len(store.list_calls(row.id, limit=1000))


def epoch(handle: kitaru.FlowHandle[Any]) -> int:
    row = app.current().store.find_execution(handle.exec_id)
    assert row is not None
    return row.epoch


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_body_that_ends_while_the_database_is_away_is_recorded_once_it_is_back(
    line: Line, how: str, is_async: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = flows.on_the_loop if is_async else flows.plain
    bodies = 2 if is_async else 1
    handle = begun.run("a")
    until(lambda: len(noted("begun a")) == bodies)
    with line.away(how):
        open_gate("a")
        until(lambda: len(noted("ended a")) == bodies)
        until(line.is_missed)
        assert noted("after a") == []  # nothing new starts
    found: Any = handle.wait(timeout=HANG_SECONDS)
    assert found[-1] == "after a"
    assert len(noted("begun a")) == bodies
    assert len(noted("after a")) == 1
    assert statuses(handle) == ("completed", bodies + 1)
    assert epoch(handle) == 1
    said = capsys.readouterr().err
    assert said.count("the store is away since") == 1
    assert said.count("the store is back after") == 1


def test_fifty_calls_of_a_map_are_each_recorded_once(line: Line) -> None:
    handle = flows.maps.run("m")
    begun = [f"begun m {n}" for n in range(50)]
    until(lambda: sum(len(noted(word)) for word in begun) >= 8)
    with line.away("immediate"):
        for n in range(50):
            open_gate(f"m {n}")
        until(line.is_missed)
    assert handle.wait(timeout=HANG_SECONDS) == 50
    assert [len(noted(word)) for word in begun] == [1] * 50
    assert statuses(handle) == ("completed", 50)


def test_a_failure_is_held_too_and_tried_again_afterwards(line: Line) -> None:
    handle = flows.tries_again.run("r")
    until(lambda: noted("begun r"))
    with line.away("fast"):
        open_gate("r")
        until(line.is_missed)
    assert handle.wait(timeout=HANG_SECONDS) == "r"
    assert len(noted("begun r")) == 2
    assert statuses(handle) == ("completed", 2)


def test_a_flow_that_ends_while_the_database_is_away_has_ended_well(line: Line) -> None:
    good, bad = flows.ends.run("good"), flows.fails.run("bad")
    until(lambda: noted("begun good") and noted("begun bad"))
    with line.away("immediate"):
        open_gate("good")
        open_gate("bad")
        until(line.is_missed)
    assert good.wait(timeout=HANG_SECONDS) == "good"
    with pytest.raises(KitaruUserCodeError, match="bad"):
        bad.wait(timeout=HANG_SECONDS)
    assert statuses(good) == ("completed", 0)
    assert statuses(bad) == ("failed", 0)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_whatever_a_flow_asks_of_the_store_waits_until_it_is_back(
    line: Line, is_async: bool
) -> None:
    handle = (flows.awaits_everything if is_async else flows.asks_of_everything).run("e")
    until(lambda: noted("begun e"))
    with line.away():
        open_gate("e")
        open_gate("born")
        until(line.is_missed)
    assert handle.wait(timeout=HANG_SECONDS) == [[1], "born", "True", "after e"]
    for word in ("begun e", "begun born", "kept True", "after e"):
        assert len(noted(word)) == 1
    assert epoch(handle) == 1


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_who_waits_for_an_answer_gets_one_that_comes_after_the_outage(
    line: Line, is_async: bool
) -> None:
    handle = (flows.asks_on_the_loop if is_async else flows.asks).run("w")
    assert app.current().runner.wait_idle(HANG_SECONDS)
    executions = KitaruClient().executions
    with line.away(), pytest.raises(KitaruBackendError) as refused:
        executions.input(handle.exec_id, wait="answer", value=1)
    assert refused.value.code == "store-away"
    executions.input(handle.exec_id, wait="answer", value=2)
    found: Any = handle.wait(timeout=HANG_SECONDS)
    assert 2 in found
    assert len(noted("after w")) == 1


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_sleep_that_is_over_while_the_database_is_away_ends_afterwards(
    line: Line, is_async: bool
) -> None:
    handle = (flows.sleeps_on_the_loop if is_async else flows.sleeps).run("s", 0.3)
    row = app.current().store.find_execution(handle.exec_id)
    assert row is not None
    due_at = row.created_at + 300_000
    with line.away():
        until(lambda: app.current().env.now() > due_at)
        assert noted("after s") == []
    assert handle.wait(timeout=HANG_SECONDS) == "after s"
    assert len(noted("after s")) == 1


def test_a_cancel_is_refused_while_the_database_is_away_and_done_afterwards(line: Line) -> None:
    handle = flows.plain.run("c")
    until(lambda: noted("begun c"))
    with line.away():
        with pytest.raises(KitaruBackendError) as refused:
            handle.cancel()
        open_gate("c")
        until(line.is_missed)
    assert refused.value.code == "store-away"
    assert handle.wait(timeout=HANG_SECONDS)[-1] == "after c"


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_what_was_cancelled_before_ends_cancelled_and_starts_nothing(
    line: Line, is_async: bool
) -> None:
    handle = (flows.on_the_loop if is_async else flows.plain).run("c")
    until(lambda: len(noted("begun c")) == 1 + is_async)
    handle.cancel()
    with line.away():
        open_gate("c")
        until(lambda: len(noted("ended c")) == 1 + is_async)
        until(line.is_missed)
    with pytest.raises(KitaruCancelledError):
        handle.wait(timeout=HANG_SECONDS)
    assert noted("after c") == []
    assert statuses(handle)[0] == "cancelled"


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_what_others_cancel_while_only_this_process_is_cut_off_ends_cancelled_here(
    line: Line, is_async: bool
) -> None:
    handle = (flows.on_the_loop if is_async else flows.plain).run("c")
    until(lambda: len(noted("begun c")) == 1 + is_async)
    with line.away():
        with line.elsewhere() as store:
            row = store.find_execution(handle.exec_id)
            assert row is not None
            store.apply(Cancel(row.id, row.epoch, "ann", "cancelled by ann", row.created_at))
        open_gate("c")
        until(line.is_missed)
    with pytest.raises(KitaruCancelledError, match="cancelled by ann"):
        handle.wait(timeout=HANG_SECONDS)
    status, recorded = statuses(handle)
    assert status == "cancelled"
    # What was held is recorded. One more call may begin: it is seen within a poll.
    assert recorded >= 1 + is_async
    assert len(noted("begun c")) == 1 + is_async


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_what_others_answer_while_only_this_process_is_cut_off_goes_on_here(
    line: Line, is_async: bool
) -> None:
    handle = (flows.asks_on_the_loop if is_async else flows.asks).run("w")
    assert app.current().runner.wait_idle(HANG_SECONDS)
    with line.away():
        with line.elsewhere() as store:
            row = store.find_execution(handle.exec_id)
            assert row is not None
            (wait,) = store.list_waits(row.id)
            given = encode(5, what="the answer")
            store.apply(Answer(row.id, wait.row.identity, given, "ann", row.created_at))
        until(line.is_missed)
    found: Any = handle.wait(timeout=HANG_SECONDS)
    assert 5 in found
    assert len(noted("after w")) == 1


def test_whoever_waits_is_told_that_the_store_is_away(
    line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    handle = flows.ends.run("x")
    until(lambda: noted("begun x"))
    fresh = flows.ends.handle(handle.exec_id)
    found: list[str] = []

    def wait(one: kitaru.FlowHandle[str]) -> None:
        found.append(one.wait(timeout=HANG_SECONDS))

    waiting = [threading.Thread(target=wait, args=(one,)) for one in (handle, fresh)]
    with line.away():
        for thread in waiting:
            thread.start()
        open_gate("x")
        until(line.is_missed)
        with pytest.raises(KitaruTimeoutError) as late:
            fresh.wait(timeout=0.01)
        assert "because the store is away" in str(late.value)
        assert late.value.last_status is None
    for thread in waiting:
        thread.join(HANG_SECONDS)
    assert found == ["x", "x"]
    said = capsys.readouterr().err
    assert said.count("the store is away since") == 1
    assert said.count("the store is back after") == 1


# --- longer than the lease ------------------------------------------------------------------


@pytest.mark.usefixtures("short_lease")
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_lease_that_nobody_claimed_is_renewed_and_what_was_held_is_recorded(
    line: Line, how: str, is_async: bool
) -> None:
    handle = (flows.on_the_loop if is_async else flows.plain).run("l")
    until(lambda: len(noted("begun l")) == 1 + is_async)
    with line.away(how):
        open_gate("l")
        until(line.is_missed)
        until(lambda: app.current().runner.ownership.is_suspended)
    assert handle.wait(timeout=HANG_SECONDS)[-1] == "after l"
    assert len(noted("begun l")) == 1 + is_async
    assert len(noted("after l")) == 1
    assert epoch(handle) == 1
    assert line.ask("select count(*) from kitaru.owners where died_at is not null") == [(0,)]


@pytest.mark.usefixtures("short_lease")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_what_another_process_has_taken_over_meanwhile_is_refused_here(
    line: Line, is_async: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    handle = (flows.on_the_loop if is_async else flows.plain).run("t")
    until(lambda: len(noted("begun t")) == 1 + is_async)
    other = line.other(line.url)
    with line.away():
        until(lambda: noted("begun t").count(other.pid) == 1 + is_async)
        open_gate("t")
        until(lambda: noted("after t") == [other.pid])
        until(line.is_missed)
    found: Any = handle.wait(timeout=HANG_SECONDS)
    assert found[0] == f"t in {other.pid}"
    assert noted("after t") == [other.pid]
    assert statuses(handle) == ("completed", 2 + is_async)
    assert epoch(handle) == 2
    assert app.current().runner.wait_idle(HANG_SECONDS)
    assert "was taken over by another process" in capsys.readouterr().err


def test_after_an_outage_for_all_nobody_is_taken_over_before_a_heartbeat_has_passed(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITARU_LEASE_SECONDS", "6")
    other = line.other(line.through(), "h")
    until(lambda: noted("begun h"))
    kitaru.recover()
    ours = flows.plain.run("o")
    until(lambda: noted("begun o"))
    leases = "select lease_until, died_at, steady_since from kitaru.owners"
    with line.away():
        until(lambda: app.current().runner.ownership.is_suspended)
        until(lambda: line.ask(f"{leases} where lease_until >= kitaru.clock(0)") == [])
        open_gate("h")
        open_gate("o")
    assert ours.wait(timeout=HANG_SECONDS)[-1] == "after o"
    theirs = flows.plain.options(key="theirs").run("h")
    assert theirs.wait(timeout=HANG_SECONDS)[-1] == "after h"
    found: list[Any] = line.ask(leases)
    deaths = [died_at for _, died_at, _ in found if died_at is not None]
    first = min(steady_since for _, died_at, steady_since in found if died_at is None)
    # A machine that stands still may miss its heartbeat: then it is taken over, but not before.
    assert all(died_at - first >= 2_000_000 for died_at in deaths)
    if not deaths:
        assert noted("begun h") == noted("after h") == [other.pid]
        assert epoch(theirs) == 1
