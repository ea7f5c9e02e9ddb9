"""``flow.options(connection=...).enqueue()``: there when and only when that is committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from psycopg.types.string import StrDumper
from tests import postgres
from tests.proxy import proxy

import kitaru
from kitaru import (
    KitaruBackendError,
    KitaruNotFoundError,
    KitaruStateError,
    KitaruUsageError,
    app,
    checkpoint,
    flow,
)
from kitaru._store.postgres.telling import QUEUED, channel
from kitaru._store.protocol import DropBlobs

from .kit import (
    PATIENCE_SECONDS,
    Later,
    asked,
    executions,
    is_there,
    order,
    orders,
    ship,
    wait_for_a_lock,
)

Connection = psycopg.Connection[Any]

LARGE = "a large value " * 20_000
REPEATABLE, SERIALIZABLE = (
    psycopg.IsolationLevel.REPEATABLE_READ,
    psycopg.IsolationLevel.SERIALIZABLE,
)


def refused(function: Callable[[], object], kind: type[Exception], code: str) -> str:
    with pytest.raises(kind) as found:
        function()
    assert getattr(found.value, "code", None) == code
    return str(found.value)


# --- there when and only when it is committed ------------------------------------------------


def test_it_is_there_with_the_commit_and_a_worker_runs_it(
    database: str, connection: Connection
) -> None:
    kitaru.recover()
    order(connection, 7)
    handle = ship.options(connection=connection).enqueue({"order": 7})
    assert executions(database) == []
    connection.commit()
    assert handle.wait(timeout=PATIENCE_SECONDS) == {"order": 7}
    assert (orders(database), executions(database)) == ([7], [handle.exec_id])


def test_a_rollback_takes_it_along(database: str, connection: Connection) -> None:
    order(connection, 7)
    handle = ship.options(connection=connection).enqueue(7)
    connection.rollback()
    assert (orders(database), executions(database)) == ([], [])
    said = refused(lambda: handle.status, KitaruNotFoundError, "execution-not-committed")
    assert "rolled back" in said
    assert handle.exec_id in said


def test_a_connection_that_goes_takes_it_along(database: str, connection: Connection) -> None:
    order(connection, 7)
    handle = ship.options(connection=connection).enqueue(7)
    connection.close()
    assert not is_there(handle)
    assert (orders(database), executions(database)) == ([], [])


def test_a_rollback_to_a_savepoint_before_it_takes_it_along(
    database: str, connection: Connection
) -> None:
    with connection.transaction(force_rollback=True), connection.transaction():
        order(connection, 7)
        handle = ship.options(connection=connection).enqueue(7)
    with connection.transaction():
        with connection.transaction(force_rollback=True):
            lost = ship.options(connection=connection).enqueue(7)
        kept = ship.options(connection=connection).enqueue(8)
    assert [is_there(each) for each in (handle, lost, kept)] == [False, False, True]
    assert "savepoint" in refused(lost.wait, KitaruNotFoundError, "execution-not-committed")
    assert executions(database) == [kept.exec_id]


def test_until_the_commit_its_handle_says_what_to_do(connection: Connection) -> None:
    handle = ship.options(connection=connection).enqueue(7)
    for ask in (lambda: handle.status, handle.wait, handle.get, handle.cancel):
        said = refused(ask, KitaruNotFoundError, "execution-not-committed")
        assert "Commit, and ask then" in said

    async def wait() -> None:
        await handle

    with pytest.raises(KitaruNotFoundError, match="Commit"):
        asyncio.run(wait())
    connection.commit()
    assert handle.status.value == "pending"
    handle.cancel()
    assert handle.status.value == "cancelled"


def test_all_that_is_said_of_it_is_recorded(connection: Connection) -> None:
    options = ship.options(queue="slow", priority=5, limit_key="ada", delay=60, tags=["new"])
    handle = options.options(key="7", timeout=9, connection=connection).enqueue(7)
    connection.commit()
    found = kitaru.KitaruClient().executions.get(handle.exec_id)
    assert (found.queue, found.priority, found.limit_key) == ("slow", 5, "ada")
    assert (found.key, found.tags, found.due_at is not None) == ("7", ("new",), True)


@pytest.mark.parametrize("level", [None, REPEATABLE, SERIALIZABLE])
def test_large_inputs_are_there_with_it_and_only_with_it(
    database: str, connection: Connection, level: psycopg.IsolationLevel | None
) -> None:
    connection.isolation_level = level
    order(connection, 7)  # its snapshot stands
    ship.options(connection=connection).enqueue(LARGE)
    connection.rollback()
    # One that nobody names is collected; a strict transaction takes its own along.
    assert asked(database, "select count(*) from kitaru.blobs") == [(0 if level else 1,)]
    order(connection, 7)
    handle = ship.options(connection=connection, key="k").enqueue(LARGE)
    again = ship.options(connection=connection, key="k").enqueue(LARGE)
    connection.commit()
    assert again.exec_id == handle.exec_id
    assert asked(database, "select count(*) from kitaru.blobs") == [(1,)]
    kitaru.recover()
    assert handle.wait(timeout=PATIENCE_SECONDS) == LARGE


@pytest.mark.parametrize("new", [False, True], ids=["known", "new"])
def test_a_long_transaction_holds_nobody_up_who_keeps_the_same_bytes(
    connection: Connection, new: bool
) -> None:
    first = ship.enqueue(7 if new else LARGE)
    ship.options(connection=connection).enqueue(LARGE)
    assert Later(lambda: ship.enqueue(LARGE).status.value).answer() == "pending"
    connection.rollback()
    assert is_there(first)


def test_a_large_input_of_an_open_transaction_is_not_collected(
    database: str, connection: Connection
) -> None:
    handle = ship.options(connection=connection).enqueue(LARGE)
    ((digest,),) = asked(database, "select digest from kitaru.blobs")
    dropping = Later(lambda: app.current().store.apply(DropBlobs([digest])))
    wait_for_a_lock(database)
    connection.commit()
    assert dropping.answer() == []
    kitaru.recover()
    assert handle.wait(timeout=PATIENCE_SECONDS) == LARGE


def test_a_long_transaction_holds_no_new_limit_up(connection: Connection) -> None:
    handle = ship.options(connection=connection).enqueue(7)
    client = kitaru.KitaruClient()
    assert Later(lambda: client.limits.set("default", 1).max).answer() == 1
    connection.commit()
    kitaru.recover()
    assert handle.wait(timeout=PATIENCE_SECONDS) == 7
    assert client.limits.list()[0].taken == 0


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_commit_of_which_the_program_does_not_know_is_told_by_the_handle(
    database: str, after: bool
) -> None:
    said = conninfo_to_dict(database)
    with proxy(str(said["host"]), int(str(said["port"]))) as way:
        connection = psycopg.connect(make_conninfo(database, host="127.0.0.1", port=str(way.port)))
        order(connection, 7)
        handle = ship.options(connection=connection).enqueue(7)
        way.strike("COMMIT", lambda pair: pair.cut(), after=after)
        with pytest.raises(psycopg.OperationalError):
            connection.commit()
        assert way.struck.wait(PATIENCE_SECONDS)
        connection.close()
    assert is_there(handle) == after
    assert orders(database) == [7] * after


def test_without_transactions_it_is_started_at_once(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        handle = ship.options(connection=connection).enqueue(7)
        assert connection.info.transaction_status is TransactionStatus.IDLE
        assert executions(database) == [handle.exec_id]
        with connection.transaction(force_rollback=True):
            lost = ship.options(connection=connection).enqueue(8)
        assert not is_there(lost)


def test_workers_hear_of_it_with_the_commit_and_not_without(
    database: str, connection: Connection
) -> None:
    with psycopg.connect(database, autocommit=True) as listening:
        listening.execute(f"listen {channel('shop')}")
        ship.options(connection=connection).enqueue(7)
        connection.rollback()
        ship.options(connection=connection).enqueue(7)
        connection.commit()
        listening.execute("notify another_channel")
        heard = list(listening.notifies(timeout=PATIENCE_SECONDS, stop_after=1))
        heard += listening.notifies(timeout=0)
    assert [one.payload for one in heard] == [QUEUED]


def test_one_that_is_started_at_once_and_whose_answer_is_lost_says_that_nobody_knows(
    database: str,
) -> None:
    said = conninfo_to_dict(database)
    with proxy(str(said["host"]), int(str(said["port"]))) as way:
        through = make_conninfo(database, host="127.0.0.1", port=str(way.port))
        connection = psycopg.connect(through, autocommit=True)
        way.strike("\0commit\0", lambda pair: pair.cut(), after=True)
        told = refused(
            lambda: ship.options(connection=connection, key="k").enqueue(7),
            KitaruBackendError,
            "connection-lost",
        )
        connection.close()
    (exec_id,) = executions(database)
    assert exec_id in told
    assert "not known" in told
    assert ship.options(key="k").enqueue(7).exec_id == exec_id


# --- keys ------------------------------------------------------------------------------------


def test_a_key_that_is_there_is_that_execution(database: str, connection: Connection) -> None:
    before = ship.options(key="k").enqueue(7)
    keyed = ship.options(key="k", connection=connection)
    assert keyed.enqueue(7).exec_id == before.exec_id
    refused(lambda: keyed.enqueue(8), KitaruStateError, "key-used-with-other-inputs")
    order(connection, 7)
    connection.commit()
    assert (orders(database), executions(database)) == ([7], [before.exec_id])


@pytest.mark.parametrize("commits", [True, False])
def test_a_key_of_another_open_transaction_is_waited_for(
    database: str, connection: Connection, commits: bool
) -> None:
    first = ship.options(key="k", connection=connection).enqueue(7)
    with psycopg.connect(database) as other:
        later = Later(lambda: ship.options(key="k", connection=other).enqueue(7))
        wait_for_a_lock(database)
        (connection.commit if commits else connection.rollback)()
        second = later.answer()
        other.commit()
    assert (second.exec_id == first.exec_id) == commits
    assert executions(database) == [second.exec_id]


@pytest.mark.parametrize("commits", [True, False])
def test_an_enqueue_without_a_connection_waits_for_a_key_too(
    database: str, connection: Connection, commits: bool
) -> None:
    first = ship.options(key="k", connection=connection).enqueue(7)
    later = Later(lambda: ship.options(key="k").enqueue(7))
    wait_for_a_lock(database)
    (connection.commit if commits else connection.rollback)()
    assert (later.answer().exec_id == first.exec_id) == commits
    assert len(executions(database)) == 1


@pytest.mark.parametrize("level", [REPEATABLE, SERIALIZABLE])
def test_a_race_on_a_key_is_told_to_strict_transactions_as_the_driver_tells_it(
    database: str, connection: Connection, level: psycopg.IsolationLevel
) -> None:
    connection.isolation_level = level
    order(connection, 7)  # its snapshot stands
    other = ship.options(key="k").enqueue(7)
    with pytest.raises(pg.SerializationFailure):
        ship.options(key="k", connection=connection).enqueue(7)
    connection.rollback()
    order(connection, 7)
    again = ship.options(key="k", connection=connection).enqueue(7)
    connection.commit()
    assert again.exec_id == other.exec_id
    assert orders(database) == [7]


def test_strict_transactions_do_not_fail_for_each_others_sake(
    database: str, connection: Connection
) -> None:
    with psycopg.connect(database) as other:
        for each in (connection, other):
            each.isolation_level = SERIALIZABLE
        for each, key in ((connection, "one"), (other, "two")):
            ship.options(key=key, connection=each).enqueue(7)
        connection.commit()
        other.commit()
    assert len(executions(database)) == 2


# --- the connection stays as it was ----------------------------------------------------------


class Shouting(StrDumper):
    def dump(self, obj: Any) -> Any:
        return str(obj).upper().encode()


def spoil(connection: Connection) -> None:
    connection.row_factory = dict_row  # type: ignore[assignment]
    connection.prepare_threshold = 0
    connection.cursor_factory = psycopg.ClientCursor
    for kind in (str, int, bytes, bool):
        connection.adapters.register_dumper(kind, Shouting)
    connection.execute("set search_path to nowhere")
    connection.execute("set timezone to 'Asia/Tokyo'")
    connection.execute("set bytea_output to 'escape'")


def settings_of(connection: Connection) -> list[Any]:
    cursor: Any = psycopg.RawCursor(connection, row_factory=dict_row)
    found = cursor.execute(
        "select current_setting('search_path'), current_setting('transaction_isolation'),"
        " current_setting('timezone'), current_setting('lock_timeout'),"
        " current_setting('bytea_output'), current_user"
    ).fetchall()
    prepared = cursor.execute(
        "select count(*) from pg_prepared_statements where statement like '%kitaru%'"
    )
    return [
        *found,
        *prepared.fetchall(),
        connection.row_factory,
        connection.cursor_factory,
        connection.prepare_threshold,
        connection.autocommit,
        connection.isolation_level,
    ]


@pytest.mark.parametrize("level", [None, REPEATABLE, SERIALIZABLE])
def test_nothing_of_it_is_changed_and_nothing_of_it_matters(
    database: str, connection: Connection, level: psycopg.IsolationLevel | None
) -> None:
    connection.isolation_level = level
    spoil(connection)
    before = settings_of(connection)
    handle = ship.options(connection=connection, key="kept small").enqueue("kept small")
    large = ship.options(connection=connection).enqueue(LARGE)
    assert ship.options(connection=connection, key="kept small").enqueue("kept small")
    assert settings_of(connection) == before
    assert connection.info.transaction_status is TransactionStatus.INTRANS
    connection.commit()
    kitaru.recover()
    assert handle.wait(timeout=PATIENCE_SECONDS) == "kept small"
    assert large.wait(timeout=PATIENCE_SECONDS) == LARGE


def test_what_is_refused_does_not_fail_the_transaction(
    database: str, connection: Connection
) -> None:
    order(connection, 7)
    ship.options(key="k", connection=connection).enqueue(7)
    for _ in range(2):
        refused(
            lambda: ship.options(key="k", connection=connection).enqueue(8),
            KitaruStateError,
            "key-used-with-other-inputs",
        )
        refused(
            lambda: ship.options(connection=connection).enqueue(object()),
            kitaru.KitaruValueError,
            "value-not-storable",
        )
    order(connection, 8)
    connection.commit()
    assert (orders(database), len(executions(database))) == ([7, 8], 1)


def test_a_statement_of_it_that_fails_does_not_fail_the_transaction(
    database: str, connection: Connection
) -> None:
    order(connection, 7)
    connection.execute("set local lock_timeout to '10ms'")
    with psycopg.connect(database) as other:
        ship.options(key="k", connection=other).enqueue(7)
        refused(
            lambda: ship.options(key="k", connection=connection).enqueue(7),
            KitaruBackendError,
            "store-locked",
        )
        other.rollback()
    ship.options(key="k", connection=connection).enqueue(7)
    connection.commit()
    assert (orders(database), len(executions(database))) == ([7], 1)


def test_a_connection_that_had_no_transaction_has_none_after_a_refusal(
    database: str, connection: Connection
) -> None:
    ship.options(key="k").enqueue(7)
    connection.execute("set default_transaction_read_only to on")
    connection.commit()
    refused(
        lambda: ship.options(connection=connection).enqueue(7),
        KitaruBackendError,
        "store-may-not-be-used",
    )
    assert connection.info.transaction_status is TransactionStatus.IDLE


# --- what is refused ---------------------------------------------------------------------------


def test_run_and_replay_say_that_it_is_enqueued(database: str, connection: Connection) -> None:
    within = ship.options(connection=connection)
    said = refused(lambda: within.run(7), KitaruUsageError, "run-in-a-transaction")
    assert "enqueue" in said
    old = ship.enqueue(7)
    old.cancel()
    refused(lambda: within.replay(old.exec_id), KitaruUsageError, "run-in-a-transaction")
    assert executions(database) == [old.exec_id]


@pytest.mark.usefixtures("own_store")
def test_a_store_of_sqlite_says_what_to_do() -> None:
    said = refused(
        lambda: ship.options(connection=object()).enqueue(7), KitaruUsageError, "connection-unfit"
    )
    assert "KITARU_STORE=postgresql://" in said


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("given", [3, "postgresql://db/app", object()])
def test_what_is_no_connection_is_refused(given: object) -> None:
    said = refused(
        lambda: ship.options(connection=given).enqueue(7), KitaruUsageError, "connection-unfit"
    )
    assert type(given).__name__ in said


def test_a_connection_that_cannot_take_it_says_why(database: str, connection: Connection) -> None:
    def why(kind: type[Exception] = KitaruUsageError) -> str:
        return refused(
            lambda: ship.options(connection=connection).enqueue(7), kind, "connection-unfit"
        )

    with connection.pipeline():
        assert "pipeline" in why()
    with pytest.raises(pg.DivisionByZero):
        connection.execute("select 1 / 0")
    assert "roll it back" in why(KitaruStateError)
    connection.rollback()
    connection.execute("set client_encoding to latin1")
    assert "UTF8" in why()
    connection.close()
    assert "closed" in why()


def test_another_database_is_refused_and_both_are_named(
    database: str, postgres_server: str, postgres_template: str
) -> None:
    with (
        postgres.database(postgres_server, like=postgres_template) as other,
        psycopg.connect(other, password="s3cret") as connection,
    ):
        connection.execute("select 1")
        said = refused(
            lambda: ship.options(connection=connection).enqueue(7),
            KitaruUsageError,
            "connection-elsewhere",
        )
        for url in (database, other):
            assert conninfo_to_dict(url)["dbname"] in said
        assert "s3cret" not in said
        assert connection.info.transaction_status is TransactionStatus.INTRANS
    assert executions(database) == []


def test_a_server_that_was_started_anew_is_the_same_one(connection: Connection) -> None:
    store: Any = app.current().store
    ship.options(connection=connection).enqueue(7)
    store._known_server = store._known_server._replace(began_at=1)
    ship.options(connection=connection).enqueue(7)


@pytest.fixture
def clerk(database: str) -> Iterator[str]:
    """A role of the application's, without rights on what is ours."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute('create role "the clerk" login')
        connection.execute('grant insert on orders to "the clerk"')
    yield make_conninfo(database, user="the clerk")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute('drop owned by "the clerk" cascade')
        connection.execute('drop role "the clerk"')


def test_a_role_without_rights_is_told_which_and_they_suffice(database: str, clerk: str) -> None:
    with psycopg.connect(clerk) as connection:
        order(connection, 7)
        said = refused(
            lambda: ship.options(connection=connection).enqueue(7),
            KitaruBackendError,
            "store-may-not-be-used",
        )
        grants = said[said.index("grant usage") :]
        with psycopg.connect(database, autocommit=True) as owner:
            owner.execute(grants.encode())
        keyed = ship.options(key="k", connection=connection)
        handle = keyed.enqueue(LARGE)
        assert keyed.enqueue(LARGE).exec_id == handle.exec_id
        connection.commit()
    assert (orders(database), executions(database)) == ([7], [handle.exec_id])


def test_a_lost_connection_says_that_nothing_is_recorded(
    database: str, connection: Connection
) -> None:
    order(connection, 7)
    asked(database, f"select pg_terminate_backend({connection.info.backend_pid}, 60000)")
    said = refused(
        lambda: ship.options(connection=connection).enqueue(7),
        KitaruBackendError,
        "connection-lost",
    )
    assert "not recorded" in said
    assert (orders(database), executions(database)) == ([], [])


# --- other places ------------------------------------------------------------------------------


def test_two_projects_start_with_one_key_each(
    database: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ship.options(key="k", connection=connection).enqueue(7)
    app.close(5)
    monkeypatch.setenv("KITARU_PROJECT", "yard")
    second = ship.options(key="k", connection=connection).enqueue(8)
    connection.commit()
    found = asked(database, "select project, exec_id from kitaru.executions order by id")
    assert found == [("shop", first.exec_id), ("yard", second.exec_id)]


@checkpoint
def place(number: int, url: str) -> str:
    with psycopg.connect(url) as connection:
        order(connection, number)
        return ship.options(connection=connection).enqueue(number).exec_id


@flow
def shop(number: int, url: str) -> str:
    return place(number, url)


def test_inside_a_checkpoint_it_is_a_child_of_that_call(database: str) -> None:
    handle = shop.run(7, database)
    child = handle.wait(timeout=PATIENCE_SECONDS)
    found = kitaru.KitaruClient().executions.get(child)
    assert found.parent_exec_id == handle.exec_id
    assert orders(database) == [7]


@checkpoint
def wait_too_early(url: str) -> str:
    with psycopg.connect(url) as connection:
        handle = ship.options(connection=connection).enqueue(7)
        return refused(handle.wait, KitaruNotFoundError, "execution-not-committed")


@flow
def hasty(url: str) -> str:
    return wait_too_early(url)


def test_nobody_waits_inside_a_flow_for_what_is_not_committed(database: str) -> None:
    assert "Commit" in hasty.run(database).wait(timeout=PATIENCE_SECONDS)


async def start_async(url: str, *, commits: bool) -> kitaru.FlowHandle[object]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("insert into orders values (7)")
        handle = await ship.options(connection=connection).enqueue_async(LARGE)
        with pytest.raises(KitaruNotFoundError, match="Commit"):
            await handle
        await (connection.commit if commits else connection.rollback)()
        return handle


@pytest.mark.parametrize("commits", [True, False])
def test_an_async_connection_is_awaited(database: str, commits: bool) -> None:
    handle = asyncio.run(start_async(database, commits=commits))
    assert is_there(handle) == commits
    assert (len(orders(database)), len(executions(database))) == (commits, commits)


def test_each_kind_of_connection_says_which_form_takes_it(
    database: str, connection: Connection
) -> None:
    async def swapped() -> None:
        async with await psycopg.AsyncConnection.connect(database) as other:
            said = refused(
                lambda: ship.options(connection=other).enqueue(7),
                KitaruUsageError,
                "connection-unfit",
            )
            assert "enqueue_async" in said
        with pytest.raises(KitaruUsageError, match=r"\.enqueue\("):
            await ship.options(connection=connection).enqueue_async(7)

    asyncio.run(swapped())
    assert executions(database) == []


async def cancelled_while_it_waits(database: str, holder: Connection) -> None:
    async with await psycopg.AsyncConnection.connect(database) as connection:
        keyed = ship.options(key="k", connection=connection)
        asking = asyncio.ensure_future(keyed.enqueue_async(7))
        await asyncio.to_thread(wait_for_a_lock, database)
        asking.cancel()
        await asyncio.to_thread(holder.rollback)
        with pytest.raises(asyncio.CancelledError):
            await asking
        # Whoever was cancelled has the connection for itself again.
        await connection.execute("insert into orders values (7)")
        await connection.rollback()


def test_whoever_is_cancelled_has_its_connection_back(
    database: str, connection: Connection
) -> None:
    ship.options(key="k", connection=connection).enqueue(7)
    asyncio.run(cancelled_while_it_waits(database, connection))
    assert (orders(database), executions(database)) == ([], [])


async def holder_and_waiter(database: str) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    async with (
        await psycopg.AsyncConnection.connect(database) as first,
        await psycopg.AsyncConnection.connect(database) as second,
    ):
        held = await ship.options(key="k", connection=first).enqueue_async(7)
        waiting = asyncio.create_task(ship.options(key="k", connection=second).enqueue_async(7))
        with ThreadPoolExecutor(1) as own:
            await loop.run_in_executor(own, wait_for_a_lock, database)
        await ship.options(connection=first).enqueue_async(8)
        await asyncio.to_thread(str)
        await first.commit()
        assert (await waiting).exec_id == held.exec_id


def test_who_waits_for_a_key_keeps_no_thread_from_who_holds_it(database: str) -> None:
    asyncio.run(holder_and_waiter(database))
