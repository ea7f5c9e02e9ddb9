"""Connections, owners and answers that are lost around a transactional checkpoint."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.engine.looking import PATIENCE_SECONDS, Gate, notes
from tests.proxy import Proxy, proxy

import kitaru
from kitaru import app, checkpoint, flow, settings
from kitaru._store.postgres.store import PostgresStore
from kitaru.env import SystemEnv
from kitaru.errors import KitaruBackendError, KitaruExecutionError, KitaruTimeoutError

from .kit import paid, recorded

RAN: list[Any] = []
MEANWHILE: list[Any] = []
"""What the next bodies do after their insert, one each."""


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()
    MEANWHILE.clear()


@pytest.fixture
def line(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The network between this process and the database."""
    said = conninfo_to_dict(database)
    with proxy(str(said["host"]), int(str(said["port"]))) as way:
        url = make_conninfo(database, host="127.0.0.1", port=str(way.port))
        monkeypatch.setenv("KITARU_STORE", url)
        settings.forget_configuration()
        yield way
        app.close(5)


@checkpoint(transaction=True)
def pay(what: str) -> str:
    connection = kitaru.connection()
    RAN.append(what)
    connection.execute("insert into paid (what) values (%s)", (what,))
    if MEANWHILE:
        MEANWHILE.pop(0)(connection)
    return f"paid {what}"


@checkpoint(transaction=True)
async def pay_async(what: str) -> str:
    connection = kitaru.async_connection()
    RAN.append(what)
    await connection.execute("insert into paid (what) values (%s)", (what,))
    if MEANWHILE:
        await MEANWHILE.pop(0)(connection)
    return f"paid {what}"


@flow
def buy(what: str) -> str:
    return pay(what)


@flow
async def buy_async(what: str) -> str:
    return await pay_async(what)


def end_session(url: str, pid: int) -> None:
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("select pg_terminate_backend(%s, 10000)", (pid,))


# --- before the commit -----------------------------------------------------------------


def test_a_session_of_the_bodys_own_that_is_ended_is_a_failure_of_the_body(database: str) -> None:
    @checkpoint(transaction=True)
    def asks_elsewhere() -> None:
        RAN.append("asked")
        with psycopg.connect(database) as own:
            end_session(database, own.info.backend_pid)
            own.execute("select 1")

    @flow
    def asks() -> None:
        asks_elsewhere()

    with pytest.raises(KitaruExecutionError, match="terminating connection"):
        asks.run().wait()
    assert RAN == ["asked"]


def test_a_line_that_is_cut_while_an_error_is_handled_runs_the_body_again(
    database: str, line: Proxy
) -> None:
    @checkpoint(transaction=True)
    def handles() -> str:
        connection = kitaru.connection()
        RAN.append("ran")
        try:
            with connection.transaction():
                connection.execute("select 1 / 0")
        except psycopg.errors.DivisionByZero:
            if len(RAN) == 1:
                line.cut_all()
            connection.execute("insert into paid (what) values ('tea')")
        return "handled"

    @flow
    def asks() -> str:
        return handles()

    assert asks.run().wait() == "handled"
    assert (RAN, paid(database)) == (["ran", "ran"], ["tea"])


def test_a_session_that_is_ended_in_the_body_runs_the_body_again(database: str) -> None:
    MEANWHILE.append(lambda connection: end_session(database, connection.info.backend_pid))
    handle = buy.run("tea")
    assert handle.wait() == "paid tea"
    assert RAN == ["tea", "tea"]
    assert (paid(database), recorded(database), recorded(database, "failed")) == (["tea"], 1, 0)
    assert any("its body runs again" in note for note in notes(handle.exec_id))


def test_so_does_one_that_the_body_has_noticed(database: str) -> None:
    def notices(connection: Any) -> None:
        end_session(database, connection.info.backend_pid)
        try:
            connection.execute("select 1")
        except psycopg.Error as error:
            raise LookupError("in words of the body's own") from error

    MEANWHILE.append(notices)
    assert buy.run("tea").wait() == "paid tea"
    assert (paid(database), recorded(database), recorded(database, "failed")) == (["tea"], 1, 0)


def test_so_does_one_of_an_async_body(database: str) -> None:
    async def notices(connection: Any) -> None:
        pid = connection.info.backend_pid
        await asyncio.to_thread(end_session, database, pid)
        await connection.execute("select 1")

    MEANWHILE.append(notices)
    assert buy_async.run("tea").wait() == "paid tea"
    assert (paid(database), recorded(database), recorded(database, "failed")) == (["tea"], 1, 0)


def test_one_that_is_ended_again_and_again_is_a_failure_in_the_end(database: str) -> None:
    MEANWHILE.extend([lambda connection: end_session(database, connection.info.backend_pid)] * 4)
    handle = buy.run("tea")
    with pytest.raises(KitaruExecutionError, match="lost 4 times in a row") as failed:
        handle.wait()
    assert isinstance(failed.value.__cause__, KitaruBackendError)
    assert failed.value.__cause__.code == "transaction-lost"
    assert len(RAN) == 4
    assert (paid(database), recorded(database)) == ([], 0)
    assert kitaru.KitaruClient().executions.retry(handle.exec_id).wait() == "paid tea"
    assert paid(database) == ["tea"]


@pytest.mark.parametrize("run", [buy, buy_async])
def test_a_connection_that_is_cut_before_its_commit_runs_the_body_again(
    run: Any, line: Proxy, database: str
) -> None:
    def arm(connection: Any) -> None:
        line.strike("commit", lambda pair: pair.cut())

    async def arm_async(connection: Any) -> None:
        arm(connection)

    MEANWHILE.append(arm if run is buy else arm_async)
    assert run.run("tea").wait() == "paid tea"
    assert line.struck.is_set()
    assert RAN == ["tea", "tea"]
    assert (paid(database), recorded(database)) == (["tea"], 1)


# --- after the commit, before its answer ------------------------------------------------


@pytest.mark.parametrize("run", [buy, buy_async])
def test_a_commit_whose_answer_is_lost_is_neither_repeated_nor_a_failure(
    run: Any, line: Proxy, database: str
) -> None:
    def arm(connection: Any) -> None:
        line.strike("commit", lambda pair: pair.cut(), after=True)

    async def arm_async(connection: Any) -> None:
        arm(connection)

    MEANWHILE.append(arm if run is buy else arm_async)
    assert run.run("tea").wait() == "paid tea"
    assert line.struck.is_set()
    assert RAN == ["tea"]
    assert (paid(database), recorded(database)) == (["tea"], 1)


@pytest.mark.parametrize("after", [False, True])
def test_what_became_of_it_is_found_out_when_the_database_is_back(
    after: bool, line: Proxy, database: str
) -> None:
    def go_away(pair: Any) -> None:
        line.is_refusing = True
        line.cut_all()

    MEANWHILE.append(lambda connection: line.strike("commit", go_away, after=after))
    handle = buy.run("tea")
    assert line.struck.wait(PATIENCE_SECONDS)
    missed = threading.Event()
    while app.current().services.outage.latch is None:
        assert not missed.wait(0.01)
    line.is_refusing = False
    assert handle.wait(timeout=PATIENCE_SECONDS) == "paid tea"
    assert (["tea"] if after else ["tea", "tea"]) == RAN
    assert (paid(database), recorded(database)) == (["tea"], 1)


# --- owners ------------------------------------------------------------------------------


def test_a_takeover_waits_for_no_body_and_what_that_writes_later_is_undone(database: str) -> None:
    taken: list[str] = []

    def take_over(connection: Any) -> None:
        with psycopg.connect(database, autocommit=True) as other:
            other.execute("set lock_timeout = '5s'")
            done = other.execute("update kitaru.executions set epoch = epoch + 1")
            taken.append(str(done.statusmessage))

    MEANWHILE.append(take_over)
    buy.run("tea")
    assert app.current().runner.wait_idle(PATIENCE_SECONDS)
    assert taken == ["UPDATE 1"]
    assert (paid(database), recorded(database)) == ([], 0)


def test_who_takes_over_ends_the_transactions_of_former_owners(database: str) -> None:
    """Else what a stopped process has locked would be waited for."""
    transactions = app.current().store.transactions
    assert transactions is not None
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("create unique index on paid (what)")
    others = [
        transactions.begin("f", 1, is_async=False),
        transactions.begin("e", 3, is_async=False),
    ]
    former = transactions.begin("e", 1, is_async=False)
    former.connection.execute("insert into paid (what) values ('tea')")
    later = transactions.begin("e", 2, is_async=False)
    later.connection.execute("insert into paid (what) values ('tea')")
    with pytest.raises(psycopg.OperationalError):
        former.connection.execute("select 1")
    assert former.was_lost(None)
    for other in others:
        other.connection.execute("select 1")
    for each in (former, later, *others):
        each.roll_back()
    assert paid(database) == []


# --- time and cancelling -------------------------------------------------------------------


def in_transaction(url: str) -> int:
    """How many sessions of bodies the server has."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "select count(*) from pg_stat_activity where datname = current_database() "
            "and application_name like 'kitaru %' and state <> 'idle'"
        ).fetchone()
    assert found is not None
    return int(found[0])


def wait_for_none(url: str) -> None:
    pause = threading.Event()
    for _ in range(int(PATIENCE_SECONDS / 0.01)):
        if in_transaction(url) == 0:
            return
        pause.wait(0.01)
    raise AssertionError("a transaction is left open")


def test_a_plain_body_that_passes_its_timeout_leaves_neither_rows_nor_a_session(
    database: str,
) -> None:
    @checkpoint(transaction=True, timeout=0.3)
    def sleeps() -> None:
        connection = kitaru.connection()
        connection.execute("insert into paid (what) values ('late')")
        connection.execute("select pg_sleep(600)")

    @flow
    def slow() -> str:
        try:
            sleeps()
        except KitaruTimeoutError:
            return "too late"
        return "in time"

    assert slow.run().wait() == "too late"
    wait_for_none(database)
    assert (paid(database), recorded(database), recorded(database, "failed")) == ([], 0, 1)


def test_nor_does_an_async_one_nor_one_whose_task_is_cancelled(database: str) -> None:
    @checkpoint(transaction=True, timeout=0.3)
    async def sleeps() -> None:
        connection = kitaru.async_connection()
        await connection.execute("insert into paid (what) values ('late')")
        await connection.execute("select pg_sleep(600)")

    @checkpoint(transaction=True)
    async def waits() -> None:
        connection = kitaru.async_connection()
        await connection.execute("insert into paid (what) values ('never')")
        reached.set()
        await asyncio.Event().wait()

    reached = threading.Event()

    @flow
    async def slow() -> str:
        try:
            await sleeps()
        except KitaruTimeoutError:
            RAN.append("too late")
        task = asyncio.ensure_future(waits())
        await asyncio.to_thread(reached.wait, PATIENCE_SECONDS)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return str(task.cancelled())

    assert slow.run().wait() == "True"
    wait_for_none(database)
    assert RAN == ["too late"]
    assert (paid(database), recorded(database)) == ([], 0)


def test_a_body_that_runs_while_its_execution_is_cancelled_is_recorded(database: str) -> None:
    gate = Gate()
    MEANWHILE.append(lambda connection: gate.pass_through())
    handle = buy.run("tea")
    gate.wait_until_reached()
    handle.cancel()
    gate.open()
    assert app.current().runner.wait_idle(PATIENCE_SECONDS)
    assert handle.status.value == "cancelled"
    assert (paid(database), recorded(database)) == (["tea"], 1)


def test_a_statement_whose_body_has_gone_is_ended_on_the_server(database: str) -> None:
    """The body is told at a pause of its own, before anybody cancels what it had sent."""
    with closing(PostgresStore.open(database, env=SystemEnv(), project="demo")) as store:
        transaction = store.transactions.begin("01a2", 1, is_async=False)
        pgconn = transaction.connection.pgconn
        pgconn.send_query(b"select pg_sleep(600)")
        pgconn.flush()
        assert in_transaction(database) == 1
        transaction.discard()
        wait_for_none(database)


def test_a_body_that_leaves_a_statement_running_has_failed(database: str) -> None:
    sent = threading.Event()

    @checkpoint(transaction=True)
    def leaves() -> str:
        connection = kitaru.connection()
        connection.execute("insert into paid (what) values ('one')")

        def sleep() -> None:
            sent.set()
            with pytest.raises(Exception, match="is over"):
                connection.execute("select pg_sleep(600)")
            RAN.append("ended")

        threads.append(threading.Thread(target=sleep))
        threads[0].start()
        while connection.pgconn.transaction_status != psycopg.pq.TransactionStatus.ACTIVE:
            assert sent.wait(PATIENCE_SECONDS)
        return "done"

    threads: list[threading.Thread] = []

    @flow
    def hasty() -> str:
        return leaves()

    with pytest.raises(KitaruExecutionError, match="a statement still ran"):
        hasty.run().wait()
    threads[0].join(PATIENCE_SECONDS)
    assert RAN == ["ended"]
    wait_for_none(database)
    assert (paid(database), recorded(database)) == ([], 0)


# --- many ------------------------------------------------------------------------------------


def test_more_bodies_than_connections_take_turns(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITARU_MAX_TRANSACTIONS", "3")
    most: list[int] = []

    @checkpoint(transaction=True)
    async def counts(n: int) -> int:
        connection = kitaru.async_connection()
        found = await (
            await connection.execute(
                "select count(*) from pg_stat_activity where datname = current_database() "
                "and application_name like 'kitaru %'"
            )
        ).fetchone()
        assert found is not None
        most.append(int(found[0]))
        return n

    @flow
    async def many() -> int:
        return sum(await asyncio.gather(*(counts(n) for n in range(30))))

    assert many.run().wait() == sum(range(30))
    assert max(most) <= 3
    assert recorded(database) == 30


def test_a_body_that_is_cancelled_while_it_waits_for_its_turn_takes_none(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITARU_MAX_TRANSACTIONS", "2")
    gate = Gate()

    @checkpoint(transaction=True)
    def holds(n: int) -> int:
        if n < 2:
            arrived.append(n)
            if len(arrived) == 2:
                gate.reached.set()
            assert gate.opened.wait(PATIENCE_SECONDS)
        return n

    arrived: list[int] = []

    @flow
    async def many() -> list[int]:
        first = [holds.submit(n) for n in range(2)]
        await asyncio.to_thread(gate.wait_until_reached)
        late = asyncio.ensure_future(waits_its_turn())
        turns = app.current().services.transactions
        while not turns.waiting:
            await asyncio.sleep(0.01)
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)
        gate.open()
        return [await one for one in first] + [await holds.submit(9)]

    @checkpoint(transaction=True)
    async def waits_its_turn() -> None:
        raise AssertionError("its turn came")

    assert many.run().wait() == [0, 1, 9]
    assert recorded(database) == 3
