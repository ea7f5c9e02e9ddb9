"""What processes tell each other through PostgreSQL: hints, which may be lost and lose nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from tests.pooler import pooling

from kitaru._core.lifecycle import State
from kitaru._store.postgres.store import PostgresStore
from kitaru._store.postgres.telling import MAX_WORDS, channel, hint_of, payload_of
from kitaru._store.protocol import (
    Answer,
    Cancel,
    Claim,
    ExecutionRow,
    Facts,
    Finish,
    Hint,
    Park,
    Record,
    Release,
    SetLimits,
)
from kitaru.env import SystemEnv

from .worlds import call_row, facts, json_payload, new_owner, start_write, started, wait_row

HANG_SECONDS = 60
ONE = bytes(31) + b"1"


class Ear:
    """Hears through a store of its own, as another process does."""

    def __init__(self, url: str, project: str = "demo") -> None:
        self.store = PostgresStore.open(url, env=SystemEnv(), project=project)
        self._changed = threading.Condition()
        self.hints: list[Hint] = []
        self.store.listen(self._hear)

    def _hear(self, hint: Hint) -> None:
        with self._changed:
            self.hints.append(hint)
            self._changed.notify_all()

    def wait_for(self, wanted: Callable[[Hint], object]) -> None:
        """Until such a hint has come; what came up to then is forgotten."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(wanted, self.hints)), HANG_SECONDS)
            self.hints.clear()

    def is_ready(self) -> None:
        self.wait_for(lambda hint: hint.anything)
        assert self.store.hears


@pytest.fixture
def speaker(postgres_url: str) -> Iterator[PostgresStore]:
    store = PostgresStore.open(postgres_url, env=SystemEnv(), project="demo")
    yield store
    store.close()


@pytest.fixture
def ear(postgres_url: str) -> Iterator[Ear]:
    ear = Ear(postgres_url)
    ear.is_ready()
    yield ear
    ear.store.close()


def begun(store: PostgresStore, exec_id: str, owner: int | None, **more: Any) -> ExecutionRow:
    return started(store, owner, exec_id, **more).row


def about(execution: int) -> Callable[[Hint], bool]:
    return lambda hint: execution in hint.executions


def queued(hint: Hint) -> bool:
    return hint.queued


def ask(url: str, sql: str, *values: Any) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(sql.encode(), values).fetchall()


def test_others_hear_of_what_may_be_claimed(speaker: PostgresStore, ear: Ear) -> None:
    row = begun(speaker, "one", None)
    ear.wait_for(queued)
    owner = new_owner(speaker)
    row = speaker.apply(Claim(row.id, row.epoch, owner.id, None, row.created_at))
    assert speaker.apply(Release(row.id, row.epoch, Facts(), row.created_at)) is State.PENDING
    ear.wait_for(lambda hint: hint.queued and row.id in hint.executions)
    speaker.apply(SetLimits("demo", {"gpu": 1}))
    ear.wait_for(queued)


def test_others_hear_of_an_end_an_answer_and_a_cancel(speaker: PostgresStore, ear: Ear) -> None:
    owner = new_owner(speaker)
    ended, asked, cancelled = (begun(speaker, name, owner.id) for name in "eac")
    at = ended.created_at
    speaker.apply(Finish(ended.id, 1, json_payload("1"), None, (), None, Facts(), at))
    ear.wait_for(about(ended.id))
    asks = Facts(waits=(wait_row(ONE),))
    speaker.apply(Park(asked.id, 1, (ONE,), (), None, "waits", owner.id, asks, at))
    speaker.apply(Answer(asked.id, ONE, json_payload("true"), "me", at))
    ear.wait_for(lambda hint: hint.queued and asked.id in hint.executions)
    speaker.apply(Cancel(cancelled.id, 1, "me", "why", at))
    ear.wait_for(about(cancelled.id))


def test_a_parent_is_told_of_when_its_child_has_ended(speaker: PostgresStore, ear: Ear) -> None:
    owner = new_owner(speaker)
    parent = begun(speaker, "parent", owner.id)
    child = begun(
        speaker, "child", owner.id, parent_exec_id="parent", parent_call=ONE, parent_epoch=1
    )
    at = parent.created_at
    speaker.apply(Park(parent.id, 1, (), ("child",), None, "waits", None, Facts(), at))
    speaker.apply(Finish(child.id, 1, json_payload("1"), None, (), None, Facts(), at))
    ear.wait_for(lambda hint: hint.queued and parent.id in hint.executions)


def test_nobody_is_told_of_a_record_or_of_a_flow_that_its_process_runs(
    speaker: PostgresStore, ear: Ear
) -> None:
    owner = new_owner(speaker)
    row = begun(speaker, "one", owner.id)
    for number in range(5):
        speaker.apply(Record(row.id, 1, facts(call_row(bytes([number]) * 32))))
    begun(speaker, "two", None)
    ear.wait_for(queued)
    assert speaker._teller.flush(HANG_SECONDS)
    assert speaker._teller.messages == 1


def test_what_was_refused_or_another_project_does_tells_nobody(
    postgres_url: str, speaker: PostgresStore, ear: Ear
) -> None:
    other = PostgresStore.open(postgres_url, env=SystemEnv(), project="other")
    other.apply(start_write("theirs", None, project="other"))
    assert other._teller.flush(HANG_SECONDS)
    assert other._teller.messages == 1
    other.close()
    begun(speaker, "ours", None)
    ear.wait_for(queued)
    assert channel("other") != channel("demo")
    assert speaker._teller.flush(HANG_SECONDS)
    assert speaker._teller.messages == 1


def test_a_storm_is_told_in_few_messages_and_heard_as_few_hints(
    speaker: PostgresStore, ear: Ear
) -> None:
    many = 300
    for number in range(many):
        speaker.apply(start_write(f"e{number}", None))
    assert speaker._teller.flush(HANG_SECONDS)
    last = begun(speaker, "last", new_owner(speaker).id)
    speaker.apply(Cancel(last.id, 1, "me", "", last.created_at))
    heard = len(ear.hints)
    ear.wait_for(about(last.id))
    # One each time the one before was out, whatever was committed meanwhile.
    assert heard < many
    assert speaker._teller.messages < many


def test_a_lost_connection_is_made_anew_and_says_that_something_may_have_been_missed(
    postgres_url: str, speaker: PostgresStore, ear: Ear
) -> None:
    killed = ask(
        postgres_url,
        "select pg_terminate_backend(pid) from pg_stat_activity where query like 'listen %%'"
        " and datname = current_database()",
    )
    assert killed == [(True,)]
    ear.wait_for(lambda hint: hint.anything)  # it does not hear any more: look
    while not ear.store.hears:
        ear.wait_for(lambda hint: hint.anything)  # it hears again: look once
    begun(speaker, "one", None)
    ear.wait_for(queued)


def test_behind_a_pooler_a_process_tells_and_does_not_listen(postgres_url: str, ear: Ear) -> None:
    with pooling(postgres_url) as pooled:
        other = Ear(pooled)
        assert other.store._listener is not None
        other.store._listener._thread.join(HANG_SECONDS)
        assert not other.store.hears
        begun(other.store, "one", None)
        ear.wait_for(queued)
        other.store.close()
    assert other.hints == []


@pytest.mark.parametrize(
    "payload", ["", " ", "q " * 4000, "\u0661", "x" * 7999, "-1", "1e9", "9" * 40, "'; drop table"]
)
def test_a_message_that_is_not_ours_costs_a_look_and_nothing_else(payload: str) -> None:
    hint = hint_of(payload)
    assert hint.executions == frozenset()
    assert hint.anything


def test_what_anybody_sends_on_the_channel_harms_nobody(
    postgres_url: str, speaker: PostgresStore, ear: Ear
) -> None:
    ask(postgres_url, "select pg_notify(%s, %s)", channel("demo"), "\u2603 " * 900)
    ear.wait_for(lambda hint: hint.anything)
    begun(speaker, "one", None)
    ear.wait_for(queued)


def test_a_message_has_room_for_what_it_says() -> None:
    most = {str(2**63 - 1 - number) for number in range(MAX_WORDS - 1)} | {"q"}
    assert len(payload_of(most)) < 8000
    assert hint_of(payload_of(most)).executions == {int(word) for word in most - {"q"}}
    assert payload_of([*most, "1"]) == "*"


def test_a_store_that_is_closed_has_said_all(postgres_url: str, ear: Ear) -> None:
    store = PostgresStore.open(postgres_url, env=SystemEnv(), project="demo")
    begun(store, "one", None)
    store.close()
    ear.wait_for(queued)


def test_who_hears_no_more_does_not_keep_its_threads(postgres_url: str) -> None:
    ear = Ear(postgres_url)
    ear.is_ready()
    begun(ear.store, "one", None)
    ear.wait_for(queued)
    listener, teller = ear.store._listener, ear.store._teller
    ear.store.close()
    assert listener is not None
    assert teller._thread is not None
    for thread in (listener._thread, teller._thread):
        thread.join(HANG_SECONDS)
        assert not thread.is_alive()
