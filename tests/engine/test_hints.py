"""What a process does when it is told: at once what else it would do when it looks.

Nothing here is seen by looking: the pauses between two looks are longer than any test.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kitaru
from kitaru import app, checkpoint, flow, opening, working
from kitaru._core.lifecycle import State
from kitaru._core.values import encode
from kitaru._engine import hints, noticing, outlook, serving
from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import NO_FACTS, Answer, Cancel, Claim, Finish, Hint, RegisterOwner
from kitaru.env import SystemEnv
from kitaru.errors import KitaruCancelledError
from kitaru.handles import FlowHandle

from .looking import PATIENCE_SECONDS, Gate, execution

FOR_EVER = 100_000.0
RAN: list[int] = []


@pytest.fixture(autouse=True)
def other(
    own_store: Any, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PostgresStore]:
    """The store of another process. This one's never looks untold."""
    RAN.clear()
    for module, name in (
        (hints, "FIRST_PAUSE_SECONDS"),
        (hints, "POLL_SECONDS"),
        (hints, "MAX_POLL_SECONDS"),
        (outlook, "POLL_SECONDS"),
        (serving, "POLL_SECONDS"),
    ):
        monkeypatch.setattr(module, name, FOR_EVER)
    monkeypatch.setattr(noticing, "LISTEN_TICKS", 0)
    open_store = opening.open_store

    def open_postgres(env: Any) -> Any:
        found = open_store(env)
        found.store.close()
        store = PostgresStore.open(postgres_url, env=env, project="demo", look_seconds=FOR_EVER)
        return found._replace(store=store)

    monkeypatch.setattr(opening, "open_store", open_postgres)
    other = PostgresStore.open(postgres_url, env=SystemEnv(), project="demo")
    yield other
    app.close(5)
    other.close()


@checkpoint(cache=False)
def note(x: int) -> int:
    RAN.append(x)
    return x


@flow
def notes(x: int) -> int:
    return note(x)


@flow
def asks() -> int:
    answer: int = kitaru.wait(name="go", schema=int)
    return answer


GATE = Gate()


@flow
def stays() -> None:
    GATE.pass_through()
    while True:
        kitaru.check()
        threading.Event().wait(0.01)


def until_heard(happens: Callable[[], bool]) -> None:
    """Until that is so; it may become so with each hint."""
    told = threading.Condition()
    heard = app.current().services.hints.heard

    def hear(hint: Hint) -> None:
        heard(hint)
        with told:
            told.notify_all()

    app.current().services.hints.heard = hear
    with told:
        assert told.wait_for(happens, PATIENCE_SECONDS)


def end(store: PostgresStore, handle: FlowHandle[Any], result: int) -> None:
    """As the process does that runs it: another one."""
    row = execution(handle.exec_id)
    owner = store.apply(RegisterOwner("theirs", 1, "elsewhere", row.created_at))
    store.apply(Claim(row.id, row.epoch, owner.id, None, row.created_at))
    payload = encode(result, what="it")
    store.apply(
        Finish(row.id, row.epoch + 1, payload, None, (), None, NO_FACTS, row.created_at + 1)
    )


def test_a_worker_claims_what_is_enqueued_when_it_is_told() -> None:
    working.begin({notes.spec.id: notes.spec}, name="w", queues=(), concurrency=2)
    until_heard(lambda: app.current().store.hears)
    for number in range(3):  # each is alone: nothing else makes it look
        assert notes.enqueue(number).wait(timeout=PATIENCE_SECONDS) == number
    assert RAN == [0, 1, 2]


def test_an_answer_that_another_process_gives_wakes_what_is_parked_here(
    other: PostgresStore,
) -> None:
    handle = asks.run()
    assert app.current().runner.wait_idle(PATIENCE_SECONDS)
    until_heard(lambda: app.current().store.hears)
    row = execution(handle.exec_id)
    assert row.status is State.WAITING
    (wait,) = other.list_waits(row.id)
    other.apply(Answer(row.id, wait.row.identity, encode(7, what="it"), "me", row.created_at))
    assert handle.wait(timeout=PATIENCE_SECONDS) == 7


def test_what_runs_here_stops_when_another_process_has_cancelled_it(other: PostgresStore) -> None:
    handle = stays.run()
    GATE.wait_until_reached()
    until_heard(lambda: app.current().store.hears)
    row = execution(handle.exec_id)
    other.apply(Cancel(row.id, row.epoch, "me", "enough", row.created_at))
    GATE.open()
    with pytest.raises(KitaruCancelledError):
        handle.wait(timeout=PATIENCE_SECONDS)


def test_who_waits_hears_of_the_end_in_another_process(other: PostgresStore) -> None:
    handle = notes.enqueue(1)
    found: list[int] = []
    waiting = threading.Thread(target=lambda: found.append(handle.wait(PATIENCE_SECONDS)))
    waiting.start()
    until_heard(lambda: app.current().store.hears)
    end(other, handle, 42)
    waiting.join(PATIENCE_SECONDS)
    assert found == [42]


def test_who_awaits_hears_of_the_end_in_another_process(other: PostgresStore) -> None:
    handle = notes.enqueue(1)

    async def wait() -> int:
        ending = threading.Thread(target=lambda: until_heard(ended_when_heard))
        ending.start()
        return await asyncio.wait_for(_await(handle), PATIENCE_SECONDS)

    def ended_when_heard() -> bool:
        if not app.current().store.hears:
            return False
        end(other, handle, 43)
        return True

    assert asyncio.run(wait()) == 43


async def _await(handle: FlowHandle[int]) -> int:
    return await handle


def test_one_that_is_told_of_others_alone_does_not_look(other: PostgresStore) -> None:
    runner = app.current().runner
    assert not runner.noticing.is_meant(Hint(queued=True, executions=frozenset({1, 2})))
    latch = app.current().services.hints.latch(7)
    app.current().services.hints._hear(Hint(executions=frozenset({8})))
    assert not latch.is_over
    app.current().services.hints._hear(Hint(executions=frozenset({7})))
    assert latch.is_over
