"""How a process notices what has become of what it parked: what is out of date changes nothing."""

from __future__ import annotations

import pytest

import kitaru
from kitaru import app, flow
from kitaru._core.lifecycle import State
from kitaru._core.payload import seal
from kitaru._engine import noticing
from kitaru._store.protocol import Answer
from kitaru.testing import in_memory
from kitaru.testing.memory import LifeEnv

PATIENCE_SECONDS = 120


@flow
def asks(number: int) -> int:
    answer: int = kitaru.wait(name="number", schema=int)
    return number + answer


@flow
def sleeps() -> str:
    kitaru.sleep(3600)
    return "awake"


def test_a_row_that_was_read_before_it_was_parked_anew_is_not_served() -> None:
    with in_memory(clock="manual") as world:
        handle = sleeps.run()
        world.settle()
        runner = app.current().runner
        (parked,) = runner.noticing.parked()
        row = world.store.find_execution(handle.exec_id)
        assert row is not None
        runner.noticing.serve(row._replace(status=State.PENDING, epoch=parked.epoch - 1))
        assert runner.noticing.parked() == [parked]
        world.advance(3600)
        assert handle.wait(PATIENCE_SECONDS) == "awake"


def test_what_was_parked_anew_is_not_forgotten_with_what_it_was_before() -> None:
    with in_memory(clock="manual") as world:
        handle = sleeps.run()
        world.settle()
        runner = app.current().runner
        (parked,) = runner.noticing.parked()
        before = parked._replace(epoch=parked.epoch - 1)
        runner.noticing.forget(handle.exec_id, before)
        assert runner.noticing.parked() == [parked]
        world.advance(3600)
        assert handle.wait(PATIENCE_SECONDS) == "awake"


def test_each_of_many_that_are_watched_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noticing, "_MAX_LOOKED_AT", 2)
    with in_memory(clock="manual") as world:
        handles = [asks.run(number) for number in range(7)]
        world.settle()
        world.kill()
        world.live(LifeEnv(world.clock))
        app.current().runner.adopting = None
        watched = app.current().runner
        for handle in handles:
            row = world.store.find_execution(handle.exec_id)
            assert row is not None
            watched.watch(asks.spec, row, None)
        for handle in handles:
            row = world.store.find_execution(handle.exec_id)
            assert row is not None
            (wait,) = world.store.list_waits(row.id)
            # As another process gives it: nobody here is told.
            payload = seal("json", b"1")
            at = world.clock.now()
            world.store.apply(Answer(row.id, wait.row.identity, payload, "somebody", at))
        found = [handle.wait(PATIENCE_SECONDS) for handle in handles]
    assert found == [number + 1 for number in range(7)]
