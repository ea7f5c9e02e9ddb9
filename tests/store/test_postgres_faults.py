"""Connections that are lost: what was recorded is recognised, what was not is done, once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.proxy import WAIT_SECONDS, Pace, Pair, Proxy, proxy

from kitaru._core.lifecycle import State
from kitaru._store.postgres.connecting import BOUNDS
from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import (
    AlreadyRecorded,
    Cancel,
    Claim,
    Facts,
    Fenced,
    Finish,
    Record,
    RegisterOwner,
    SetLimits,
    Started,
)
from kitaru.env import SystemEnv
from kitaru.errors import KitaruBackendError

from .worlds import (
    call_row,
    facts,
    json_payload,
    new_owner,
    start_write,
    started,
    work_through,
)

SURELY = "not exists"  # words of the hot statement
ONE = bytes(31) + b"1"
TWO = bytes(31) + b"2"


class Line:
    """A store behind a proxy, and a look past it."""

    def __init__(self, url: str, way: Proxy) -> None:
        self.url = url
        self.proxy = way
        self.store = self.open()

    def open(self, **bounds: Any) -> PostgresStore:
        through = make_conninfo(self.url, host="127.0.0.1", port=str(self.proxy.port))
        return PostgresStore.open(
            through,
            env=SystemEnv(),
            project="demo",
            bounds=BOUNDS._replace(**bounds),
            look_seconds=0,
        )

    def ask(self, sql: str) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(sql.encode()).fetchall()

    def count(self, table: str) -> int:
        count: int = self.ask(f"select count(*) from kitaru.{table}")[0][0]
        return count


@pytest.fixture
def line(postgres_url: str) -> Iterator[Line]:
    said = conninfo_to_dict(postgres_url)
    with proxy(str(said["host"]), int(str(said["port"]))) as way:
        made = Line(postgres_url, way)
        yield made
        made.store.close()


def recorded(execution: int, identity: bytes) -> Record:
    return Record(execution, 1, facts(call_row(identity)))


def cut(pair: Pair) -> None:
    pair.cut()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_commit_whose_connection_is_cut_is_done_once(line: Line, after: bool) -> None:
    owner = new_owner(line.store)
    line.proxy.strike("commit", cut, after=after)
    write = RegisterOwner(lock_name="lock-2", pid=1, host="here", at=1)
    second = line.store.apply(write)
    assert line.proxy.struck.wait(WAIT_SECONDS)
    assert second.lock_name == "lock-2"
    assert second.id != owner.id
    assert line.count("owners") == 2


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_record_whose_connection_is_cut_is_recorded_once(line: Line, after: bool) -> None:
    row = started(line.store, new_owner(line.store).id).row
    line.proxy.strike(SURELY, cut, after=after)
    line.store.apply(recorded(row.id, ONE))
    assert line.proxy.struck.wait(WAIT_SECONDS)
    assert line.count("calls") == 1


def test_no_number_of_losses_is_too_many_as_long_as_writes_come_through(line: Line) -> None:
    row = started(line.store, new_owner(line.store).id).row
    for n in range(7):
        line.proxy.strike(SURELY, cut, after=n % 2 == 0)
        line.store.apply(recorded(row.id, n.to_bytes(32, "big")))
        assert line.proxy.struck.wait(WAIT_SECONDS)
    assert line.count("calls") == 7


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_start_whose_connection_is_cut_starts_one_execution(line: Line, after: bool) -> None:
    owner = new_owner(line.store)
    line.proxy.strike("insert into kitaru.executions", cut, after=after)
    answer: Started = line.store.apply(start_write("e-1", owner.id, key="order-1"))
    assert line.proxy.struck.wait(WAIT_SECONDS)
    assert answer.created
    assert answer.row.exec_id == "e-1"
    again: Started = line.store.apply(start_write("e-2", owner.id, key="order-1"))
    assert not again.created
    assert line.count("executions") == 1


def test_a_start_under_a_limit_that_is_cut_again_and_again_has_its_slot(line: Line) -> None:
    owner = new_owner(line.store)
    line.store.apply(SetLimits("demo", {"default": 1}))

    def cut_twice(pair: Pair) -> None:
        line.proxy.strike("insert into kitaru.slots", cut)
        pair.cut()

    line.proxy.strike("insert into kitaru.slots", cut_twice)
    answer: Started = line.store.apply(start_write("e-1", owner.id))
    assert line.proxy.struck.wait(WAIT_SECONDS)
    assert (answer.created, answer.row.status) == (True, State.RUNNING)
    assert (line.count("executions"), line.count("slots")) == (1, 1)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kind", ["claim", "cancel", "finish"])
def test_every_kind_of_write_is_done_once_and_answered(line: Line, kind: str, after: bool) -> None:
    store = line.store
    owner = new_owner(store).id
    row = started(store, None if kind == "claim" else owner).row
    writes: dict[str, Any] = {
        "claim": lambda: Claim(row.id, 0, owner, None, 5),
        "cancel": lambda: Cancel(row.id, 1, by="me", reason="enough", at=5),
        "finish": lambda: Finish(row.id, 1, json_payload("1"), None, (), None, Facts(), 5),
    }
    line.proxy.strike("commit", cut, after=after)
    answer = store.apply(writes[kind]())
    assert line.proxy.struck.wait(WAIT_SECONDS)
    status, epoch, _ = store.get_status(row.id)
    expected = {
        "claim": (State.RUNNING, 1),
        "cancel": (State.CANCELLING, 1),
        "finish": (State.COMPLETED, 1),
    }
    assert (status, epoch) == expected[kind]
    assert answer is not None or kind == "cancel"


def test_a_group_is_done_once_each_write_with_its_answer(line: Line) -> None:
    store = line.store
    row = started(store, new_owner(store).id).row
    answers: dict[str, Any] = {}

    def told(name: str) -> Callable[[Any, BaseException | None], None]:
        return lambda answer, error: answers.update({name: error or answer})

    store.post(recorded(row.id, ONE), told("one"))
    store.post(RegisterOwner(lock_name="lock-9", pid=1, host="here", at=1), told("owner"))
    store.post(Record(row.id, 7, facts(call_row(TWO))), told("stale"))
    line.proxy.strike("commit", cut, after=True)
    store.flush(wait=True)
    assert line.proxy.struck.wait(WAIT_SECONDS)
    assert answers["one"] is None
    assert answers["owner"].lock_name == "lock-9"
    assert isinstance(answers["stale"], Fenced)
    assert (line.count("calls"), line.count("owners")) == (1, 2)


def posted(store: PostgresStore, writes: list[Record]) -> list[Any]:
    """All of them as one group -> the answer, or the error, of each."""
    answers: list[Any] = ["none"] * len(writes)

    def told(number: int) -> Callable[[Any, BaseException | None], None]:
        def tell(answer: Any, error: BaseException | None) -> None:
            answers[number] = error or answer

        return tell

    for number, write in enumerate(writes):
        store.post(write, told(number))
    store.flush(wait=True)
    return answers


def many(execution: int, count: int, first: int = 0) -> list[Record]:
    return [recorded(execution, n.to_bytes(32, "big")) for n in range(first, first + count)]


def test_records_of_a_group_are_one_transaction_and_each_has_its_answer(line: Line) -> None:
    store = line.store
    row = started(store, new_owner(store).id).row
    writes = many(row.id, 20)
    stale = Record(row.id, 7, facts(call_row(ONE)))
    again = recorded(row.id, bytes(32))
    answers = posted(store, [*writes[:10], stale, *writes[10:], again])
    assert isinstance(answers.pop(10), Fenced)
    assert isinstance(answers.pop(), AlreadyRecorded)
    assert answers == [None] * 20
    assert line.ask("select count(*), count(distinct xmin::text) from kitaru.calls") == [(20, 1)]


@pytest.mark.parametrize("is_cut", [False, True], ids=["", "cut"])
def test_a_wrong_record_of_a_group_fails_alone(line: Line, is_cut: bool) -> None:
    store = line.store
    row = started(store, new_owner(store).id).row
    if is_cut:
        line.proxy.strike(SURELY, cut)
    wrong = Record(row.id, 1, facts(call_row(ONE, reason="a NUL \0 in it")))
    before, found, after = posted(store, [*many(row.id, 1), wrong, recorded(row.id, TWO)])
    assert isinstance(found, psycopg.DataError)
    assert (before, after) == (None, None)
    assert line.count("calls") == 2


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_records_of_a_group_whose_connection_is_cut_are_recorded_once(
    line: Line, after: bool
) -> None:
    store = line.store
    row = started(store, new_owner(store).id).row
    for first in (0, 20, 40):
        line.proxy.strike("demo.research", cut, after=after)  # a value: also once it is prepared
        assert posted(store, many(row.id, 20, first)) == [None] * 20
        assert line.proxy.struck.wait(WAIT_SECONDS)
    assert line.count("calls") == 60


@pytest.mark.parametrize("count", [1, 5], ids=["alone", "a-group"])
def test_a_commit_that_fails_after_all_was_answered_is_told_and_nothing_acknowledged(
    line: Line, count: int
) -> None:
    with psycopg.connect(line.url, autocommit=True) as connection:
        connection.execute(
            "create function refuse() returns trigger language plpgsql as"
            " $$ begin raise exception 'not today'; end $$;"
            "create constraint trigger refuses after insert on kitaru.calls"
            " deferrable initially deferred for each row execute function refuse()"
        )
    store = line.store
    row = started(store, new_owner(store).id).row
    for _ in range(2):  # before it is prepared, and after
        answers = posted(store, many(row.id, count))
        assert ["not today" in str(each) for each in answers] == [True] * count
    assert line.count("calls") == 0
    with psycopg.connect(line.url, autocommit=True) as connection:
        connection.execute("drop trigger refuses on kitaru.calls")
    assert posted(store, many(row.id, count)) == [None] * count
    assert line.count("calls") == count


def test_records_that_were_committed_as_their_leader_was_interrupted_have_their_answers(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = line.store
    row = started(store, new_owner(store).id).row
    database = store._database
    whole = database.change_all

    def interrupted(*args: Any) -> list[int] | None:
        monkeypatch.undo()
        whole(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(database, "change_all", interrupted)
    answers: list[Any] = []
    for write in many(row.id, 5):
        store.post(write, lambda answer, error: answers.append(error or answer))
    with pytest.raises(KeyboardInterrupt):
        store.flush(wait=True)
    assert answers == [None] * 5
    assert line.count("calls") == 5


@pytest.mark.parametrize("together", [True, False], ids=["together", "one-by-one"])
def test_records_of_a_group_in_doubt_are_answered_when_they_are_asked_for_again(
    line: Line, together: bool
) -> None:
    store = line.store
    row = started(store, new_owner(store).id).row

    def cut_and_refuse(pair: Pair) -> None:
        line.proxy.is_refusing = True
        pair.cut()

    writes = many(row.id, 5)
    line.proxy.strike(SURELY, cut_and_refuse, after=True)
    for _ in range(2):
        assert {type(each) for each in posted(store, writes)} == {KitaruBackendError}
    line.proxy.is_refusing = False
    if together:
        assert posted(store, [*writes, recorded(row.id, TWO)]) == [None] * 6
    else:
        assert [store.apply(each) for each in (*writes, recorded(row.id, TWO))] == [None] * 6
    assert line.count("calls") == 6


@pytest.mark.parametrize("hot", [True, False], ids=["a-record", "a-transaction"])
def test_a_write_in_doubt_is_answered_when_it_is_asked_for_again(line: Line, hot: bool) -> None:
    """The server goes away with the answer: the same write, later, is recognised."""
    store = line.store
    row = started(store, new_owner(store).id).row

    def cut_and_refuse(pair: Pair) -> None:
        line.proxy.is_refusing = True
        pair.cut()

    write: Any = recorded(row.id, ONE) if hot else RegisterOwner("lock-2", 1, "here", at=1)
    line.proxy.strike(SURELY if hot else "commit", cut_and_refuse, after=True)
    with pytest.raises(KitaruBackendError) as caught:
        store.apply(write)
    assert caught.value.code == "store-away"
    with pytest.raises(KitaruBackendError):
        store.apply(write)
    line.proxy.is_refusing = False
    answer = store.apply(write)
    assert answer is None if hot else answer.lock_name == "lock-2"
    assert (line.count("calls"), line.count("owners")) == ((1, 1) if hot else (0, 2))
    # And what comes afterwards goes its usual way.
    store.apply(recorded(row.id, TWO))
    assert line.count("calls") == (2 if hot else 1)


def test_a_record_in_doubt_counts_although_the_execution_has_been_taken_over(line: Line) -> None:
    store = line.store
    first, second = new_owner(store).id, new_owner(store, "lock-2").id
    row = started(store, first).row

    def cut_and_refuse(pair: Pair) -> None:
        line.proxy.is_refusing = True
        pair.cut()

    write = recorded(row.id, ONE)
    line.proxy.strike(SURELY, cut_and_refuse, after=True)
    with pytest.raises(KitaruBackendError):
        store.apply(write)
    other = PostgresStore.open(line.url, env=SystemEnv(), project="demo")
    other.apply(Claim(row.id, 1, second, first, 9))
    other.close()
    line.proxy.is_refusing = False
    assert store.apply(write) is None  # it was recorded, while the owner was
    with pytest.raises(Fenced):
        store.apply(recorded(row.id, TWO))
    assert line.count("calls") == 1


def test_a_backend_that_is_terminated_between_writes_is_not_noticed(line: Line) -> None:
    store = line.store
    row = started(store, new_owner(store).id).row
    store.get_status(row.id)
    line.ask(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where application_name = 'kitaru' and datname = current_database()"
    )
    store.apply(recorded(row.id, ONE))
    assert store.get_status(row.id)[0] is State.RUNNING
    assert len(store.list_calls(row.id, limit=9)) == 1


def test_readers_get_over_a_cut(line: Line) -> None:
    row = started(line.store, new_owner(line.store).id).row
    line.store.get_status(row.id)
    line.proxy.cut_all()
    assert line.store.get_status(row.id)[0] is State.RUNNING
    line.proxy.strike("from kitaru", cut, after=True)
    assert line.store.get_status(row.id)[0] is State.RUNNING
    assert line.proxy.struck.wait(WAIT_SECONDS)


@pytest.mark.slow
def test_a_line_that_swallows_everything_is_given_up(line: Line) -> None:
    """Half-open: TCP is well, and no answer ever comes."""
    store = line.open(answer_seconds=0.5)
    row = started(store, new_owner(store).id).row

    def swallow(pair: Pair) -> None:
        pair.swallows_answers = True

    line.proxy.strike(SURELY, swallow)
    store.apply(recorded(row.id, ONE))
    assert line.proxy.struck.wait(WAIT_SECONDS)
    assert line.count("calls") == 1
    store.close()


def trickle(pace: Pace) -> Callable[[Pair], bool]:
    """From now on it passes on a few bytes at a time, those of this message too."""

    def slow_down(pair: Pair) -> bool:
        pair.pace = pace
        return True

    return slow_down


@pytest.mark.parametrize("hot", [True, False], ids=["a-record", "a-transaction"])
def test_a_commit_that_trickles_in_is_done_once_and_answered(line: Line, hot: bool) -> None:
    row = started(line.store, new_owner(line.store).id).row
    line.proxy.strike(SURELY if hot else "commit", trickle(Pace(0.001, 8)))
    if hot:
        line.store.apply(recorded(row.id, ONE))
    else:
        assert line.store.apply(RegisterOwner("lock-2", 1, "here", at=1)).lock_name == "lock-2"
    assert line.proxy.struck.is_set()
    assert (line.count("calls"), line.count("owners")) == ((1, 1) if hot else (0, 2))


@pytest.mark.slow
@pytest.mark.parametrize("hot", [True, False], ids=["a-record", "a-transaction"])
def test_a_commit_that_takes_longer_than_anybody_waits_for_is_done_once(
    line: Line, hot: bool
) -> None:
    """It is given up while its bytes still arrive: what they do in the end counts, once."""
    store = line.open(answer_seconds=0.3)
    row = started(store, new_owner(store).id).row
    word, write = (SURELY, recorded(row.id, ONE)) if hot else ("commit", None)
    write = write or RegisterOwner("lock-2", 1, "here", at=1)
    line.proxy.strike(word, trickle(Pace(0.05, 2)))
    for _ in range(1_000):
        try:
            answer = store.apply(write)
            break
        except KitaruBackendError as error:
            if error.code != "store-away":
                raise
    assert line.proxy.struck.is_set()
    assert answer is None if hot else answer.lock_name == "lock-2"
    assert (line.count("calls"), line.count("owners")) == ((1, 1) if hot else (0, 2))
    store.close()


@pytest.mark.slow
def test_lives_over_a_slow_network_end_as_they_should(line: Line) -> None:
    line.proxy.pace = Pace(0.05)
    failures: list[BaseException] = []
    threads = [
        threading.Thread(
            target=work_through, args=(line.store, name, failures), kwargs={"lives": 2}
        )
        for name in ("one", "two", "three")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert failures == []
    assert line.ask("select distinct status from kitaru.executions") == [("completed",)]


@pytest.mark.slow
def test_a_zombie_that_is_idle_in_a_transaction_is_waited_for_and_not_obeyed(line: Line) -> None:
    """It has written, holds the lock, and stands still; the server ends it, nothing of it stays."""
    store = line.open(idle_seconds=1)
    first, second = new_owner(store).id, new_owner(store, "lock-2").id
    row = started(store, first).row
    zombie = line.open(idle_seconds=1)
    database = zombie._database
    database.begin(wait=True)
    database.savepoint()
    zombie._commits._perform(recorded(row.id, ONE))
    taken = store.apply(Claim(row.id, 1, second, first, 9))
    assert taken.epoch == 2
    with pytest.raises(KitaruBackendError):
        database.commit()
    assert line.count("calls") == 0
    with pytest.raises(Fenced):
        zombie.apply(recorded(row.id, TWO))
    zombie.close()
    store.close()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_is_started_anew_loses_nothing_and_doubles_nothing(mode: str) -> None:
    from tests import postgres
    from tools import postgres_server

    with (
        postgres_server.running(settings={"max_connections": "50"}) as server,
        postgres.database(server.url()) as url,
    ):
        store = PostgresStore.open(url, env=SystemEnv(), project="demo")
        row = started(store, new_owner(store).id).row
        acknowledged: list[bytes] = []
        enough, going = threading.Event(), threading.Event()

        def work() -> None:
            for number in range(1_000_000):
                write = recorded(row.id, number.to_bytes(32, "big"))
                while True:
                    try:
                        store.apply(write)
                        break
                    except KitaruBackendError as error:
                        if error.code != "store-away":
                            raise
                acknowledged.append(write.facts.calls[0].identity)
                going.set()
                if enough.is_set():
                    return

        worker = threading.Thread(target=work)
        worker.start()
        assert going.wait(WAIT_SECONDS)
        server.restart(mode)
        going.clear()
        assert going.wait(WAIT_SECONDS)
        enough.set()
        worker.join(WAIT_SECONDS)
        found = [outcome.identity for outcome in store.load_outcomes(row.id)]
        assert sorted(found) == sorted(set(found)) == sorted(acknowledged)
        store.close()
