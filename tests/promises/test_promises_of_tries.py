"""Tries of checkpoints over more than one life (S4), and how old a reused outcome may be."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tests.conftest import end_app
from tests.engine.looking import PATIENCE_SECONDS, calls, execution
from tests.promises.conftest import ShiftedEnv

import kitaru
from kitaru import KitaruBackendError, KitaruClient, Retry, app, checkpoint, flow
from kitaru._engine.draining import drain
from kitaru._store.protocol import DeclareDead, Start

RAN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


def hand_back_and_begin_anew() -> None:
    """What a stop and a start of the process do: the next use makes a new Kitaru."""
    runner = app.current().runner
    drain(runner, PATIENCE_SECONDS)
    runner.ownership.retire()
    end_app()


def wait_for_tries(count: int, exec_id: str) -> None:
    """Until so many tries are on record."""
    store, row = app.current().store, execution(exec_id)
    done = threading.Event()
    for _ in range(int(PATIENCE_SECONDS / 0.01)):
        if len(store.list_calls(row.id, limit=100)) >= count:
            return
        done.wait(0.01)
    raise AssertionError(f"there are {len(calls(exec_id))} tries on record, not {count}")


@checkpoint(
    retries=Retry(max_attempts=3, initial_seconds=3600, max_seconds=36_000, jitter=False),
    cache=False,
)
def flaky() -> int:
    RAN.append(kitaru.current().attempt)
    raise OSError(f"try {len(RAN)}")


@flow
def tries() -> int:
    return flaky()


def test_a_backoff_survives_its_process_and_the_maximum_holds_across_lives(
    clock: ShiftedEnv,
) -> None:
    handle = tries.options(key="one").run()
    wait_for_tries(1, handle.exec_id)
    due_at = calls(handle.exec_id)[0].retry_at
    hand_back_and_begin_anew()

    # An hour has not passed: the next life waits for the rest of it and runs nothing.
    handle = tries.options(key="one").run()
    assert app.current().runner.wait_idle(PATIENCE_SECONDS)
    assert str(handle.status) == "waiting"
    hand_back_and_begin_anew()
    assert RAN == [1]

    clock.ahead_seconds = 3601
    handle = tries.options(key="one").run()
    wait_for_tries(2, handle.exec_id)
    hand_back_and_begin_anew()
    clock.ahead_seconds += 2 * 3600 + 1
    handle = tries.options(key="one").run()
    with pytest.raises(kitaru.KitaruUserCodeError, match="try 3"):
        handle.wait(PATIENCE_SECONDS)
    recorded = calls(handle.exec_id)
    assert RAN == [1, 2, 3]
    assert [call.attempt for call in recorded] == [1, 2, 3]
    assert recorded[1].started_at >= due_at
    assert recorded[2].retry_at is None


@checkpoint(cache_ttl=60)
def priced() -> int:
    RAN.append("priced")
    return len(RAN)


@flow
def asks_the_price() -> int:
    return priced()


def test_an_outcome_older_than_its_ttl_is_not_reused_and_says_how_old_it_was(
    clock: ShiftedEnv,
) -> None:
    assert asks_the_price.run().wait() == 1
    clock.ahead_seconds = 59
    assert asks_the_price.run().wait() == 1
    clock.ahead_seconds = 3600
    handle = asks_the_price.run()
    assert handle.wait() == 2
    (why,) = KitaruClient().executions.why(handle.exec_id)
    assert why.source == "ran"
    assert why.reason == "expired: recorded 1 h ago, cache_ttl 1 min"
    # And the newer one serves from now on.
    assert asks_the_price.run().wait() == 2


def test_a_process_that_was_declared_dead_is_told_so() -> None:
    @flow
    def one() -> int:
        return 1

    handle = one.options(key="done").run()
    assert handle.wait(PATIENCE_SECONDS) == 1
    done = execution(handle.exec_id)
    assert done.inputs is not None
    running = app.current()
    running.store.apply(
        Start(
            "01a00000-0000-7000-8000-000000000001",
            done.project,
            done.flow_id,
            done.flow_name,
            "abandoned",
            done.inputs_digest,
            done.inputs,
            done.seed,
            done.spec,
            "[]",
            None,
            None,
            owner=None,
            home=None,
            at=1,
        )
    )
    running.store.apply(DeclareDead(running.runner.ownership.number(), running.env.now()))
    resumed = KitaruClient().executions.resume("01a00000-0000-7000-8000-000000000001")
    with pytest.raises(KitaruBackendError, match="declared dead"):
        resumed.wait(PATIENCE_SECONDS)
    with pytest.raises(KitaruBackendError, match="declared dead"):
        one.run()
