"""A statement that goes without a cursor answers, fails and is interrupted as with one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from kitaru._store.postgres.connection import PREPARE_AFTER, Connection
from kitaru._store.postgres.database import Database

VALUES = [
    None,
    0,
    -(2**63),
    2**63 - 1,
    1.5,
    float("inf"),
    True,
    "",
    "ä€😀\n",
    b"",
    bytes(range(256)),
]


@pytest.fixture
def connection(postgres_url: str) -> Iterator[Connection]:
    database = Database(postgres_url)
    with database.connect() as made:
        yield made
    database.close()


def prepared(connection: Connection) -> int:
    found = connection.ask("select count(*) from pg_prepared_statements where not from_sql")
    return int(found.rows[0][0])


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_and_go_as_with_a_cursor(connection: Connection, value: Any) -> None:
    kind = {int: "int8", float: "float8", bool: "bool", bytes: "bytea"}.get(type(value), "text")
    sql: Any = f"select $1::{kind}, coalesce($1::{kind}, $1::{kind})"
    expected = connection.execute(sql, (value,), binary=True).fetchall()
    for _ in range(PREPARE_AFTER + 2):
        assert connection.ask(sql, (value,)).rows == expected == [(value, value)]


def test_an_answer_tells_how_many_rows_it_has_touched(connection: Connection) -> None:
    connection.ask("create temporary table one (id int8, data text)")
    rows = "select n, repeat('x', 100000) from generate_series(1::int8, $1) as n"
    written = connection.ask(f"insert into one {rows}", (50,))
    assert (written.rows, written.touched, written.tag) == ([], 50, b"INSERT 0 50")
    read = connection.ask("select id, data from one order by id")
    assert [(number, len(data)) for number, data in read.rows] == [
        (number, 100_000) for number in range(1, 51)
    ]
    assert connection.ask("delete from one where id > $1", (48,)).touched == 2
    assert connection.ask("update one set id = 0 where false").touched == 0


def test_what_recurs_is_prepared_once_for_each_kind_of_values(connection: Connection) -> None:
    for number in range(PREPARE_AFTER):
        connection.ask("select $1::int8 + 1", (number,))
    assert prepared(connection) == 0
    for number in range(5):
        assert connection.ask("select $1::int8 + 1", (number,)).rows == [(number + 1,)]
    assert prepared(connection) == 1
    for _ in range(PREPARE_AFTER + 2):
        assert connection.ask("select $1::int8 + 1", (None,)).rows == [(None,)]
    assert prepared(connection) == 2


def test_what_is_prepared_outlives_failures_and_rollbacks(connection: Connection) -> None:
    def divide(by: int) -> list[Any]:
        return connection.ask("select 10::int8 / $1", (by,)).rows

    for _ in range(PREPARE_AFTER + 1):
        assert divide(5) == [(2,)]
    for end in ("rollback", "rollback to savepoint one"):
        connection.ask("begin")
        connection.ask("savepoint one")
        with pytest.raises(psycopg.errors.DivisionByZero) as caught:
            divide(0)
        assert caught.value.diag.sqlstate == "22012"
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            divide(1)
        assert connection.ask(end).tag == b"ROLLBACK"
        assert divide(2) == [(5,)]
        if end != "rollback":
            assert connection.ask("commit").tag == b"COMMIT"


@pytest.mark.parametrize(
    ("sql", "value"), [("select $1::text", "a\0b"), ("select $1::int8", 2**63)], ids=["nul", "wide"]
)
def test_a_value_that_cannot_be_sent_is_refused_and_the_connection_goes_on(
    connection: Connection, sql: Any, value: Any
) -> None:
    def as_told(ask: Any) -> type[BaseException]:
        with pytest.raises(Exception) as caught:
            ask(sql, (value,))
        return caught.type

    assert as_told(connection.ask) is as_told(connection.execute)
    assert connection.ask("select 1::int8").rows == [(1,)]


def test_a_server_that_leaves_says_why_and_the_connection_is_closed(
    connection: Connection, postgres_url: str
) -> None:
    (number,) = connection.ask("select pg_backend_pid()").rows[0]

    def end() -> None:
        with psycopg.connect(postgres_url, autocommit=True) as other:
            while not other.execute(
                "select 1 from pg_stat_activity where pid = %s and query like '%%sleep%%'"
                " and state = 'active'",
                (number,),
            ).fetchall():
                pass
            other.execute("select pg_terminate_backend(%s)", (number,))

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(psycopg.errors.AdminShutdown):
        connection.ask("select pg_sleep(600)")
    thread.join()
    with pytest.raises(psycopg.OperationalError):
        connection.ask("select 1")
    assert connection.closed


def test_ctrl_c_ends_the_statement_on_the_server_and_leaves_the_connection(
    connection: Connection, postgres_url: str
) -> None:
    # Whoever runs the tests in the background has them ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    (number,) = connection.ask("select pg_backend_pid()").rows[0]
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        with psycopg.connect(postgres_url, autocommit=True) as other:
            while not other.execute(
                "select 1 from pg_stat_activity where pid = %s and wait_event = 'PgSleep'",
                (number,),
            ).fetchall():
                pass
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            connection.ask("select pg_sleep(600)")
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join()
    assert connection.ask("select 1::int8").rows == [(1,)]


def test_statements_that_go_together_are_one_transaction(connection: Connection) -> None:
    connection.ask("create temporary table one (id int8 primary key)")
    insert = "insert into one values ($1)"
    for first in range(0, 20, 4):  # also once it is prepared
        answers = connection.ask_all([(insert, (first + n,)) for n in range(4)])
        assert [each.touched for each in answers] == [1, 1, 1, 1]
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.ask_all([(insert, (100,)), (insert, (0,)), (insert, (101,))])
    found = connection.ask_all([("select count(*) from one", ()), ("select max(id) from one", ())])
    assert [each.rows for each in found] == [[(20,)], [(19,)]]


def test_a_failure_among_statements_of_a_transaction_is_told_and_can_be_undone(
    connection: Connection,
) -> None:
    connection.ask("create temporary table one (id int8 primary key)")
    insert = "insert into one values ($1)"
    connection.ask_all([("begin", ()), (insert, (1,)), ("savepoint one", ())])
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.ask_all([(insert, (2,)), (insert, (1,)), ("release savepoint one", ())])
    answers = connection.ask_all(
        [("rollback to savepoint one", ()), (insert, (3,)), ("commit", ())]
    )
    assert answers[-1].tag == b"COMMIT"
    assert connection.ask("select id from one order by id").rows == [(1,), (3,)]


def test_a_great_deal_that_goes_together_arrives(connection: Connection) -> None:
    """More than the buffers of both sides hold, in both directions."""
    data = bytes(100_000)
    answers = connection.ask_all([("select $1::bytea", (data,))] * 300)
    assert {each.rows[0][0] for each in answers} == {data}
