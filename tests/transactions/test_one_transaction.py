"""``@checkpoint(transaction=True)``: the body's rows and its outcome are committed together."""

from __future__ import annotations

import asyncio
import secrets
import threading
from typing import Any

import psycopg
import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.errors import (
    KitaruContextError,
    KitaruExecutionError,
    KitaruFeatureNotAvailableError,
    KitaruUsageError,
    KitaruUserCodeError,
)
from kitaru.testing import in_memory

from .kit import paid, recorded

RAN: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


@checkpoint(transaction=True)
def pay(what: str) -> int:
    RAN.append(what)
    found = (
        kitaru.connection()
        .execute("insert into paid (what) values (%s) returning id", (what,))
        .fetchone()
    )
    assert found is not None
    return int(found[0])


@checkpoint(transaction=True)
async def pay_async(what: str) -> str:
    RAN.append(what)
    connection = kitaru.async_connection()
    async with connection.cursor() as cursor:
        await cursor.execute("insert into paid (what) values (%s)", (what,))
    return what.upper()


# --- together ---------------------------------------------------------------------------


def test_the_rows_and_the_outcome_of_a_plain_function_are_both_there(database: str) -> None:
    @flow
    def buy() -> list[int]:
        return [pay("tea"), pay("milk"), pay("tea")]

    assert buy.run().wait() == [1, 2, 3]
    assert paid(database) == ["tea", "milk", "tea"]
    assert recorded(database) == 3


def test_so_are_those_of_an_async_function(database: str) -> None:
    @flow
    async def buy() -> list[str]:
        return [await pay_async("tea"), *await asyncio.gather(*map(pay_async, ("ham", "egg")))]

    assert buy.run().wait() == ["TEA", "HAM", "EGG"]
    assert sorted(paid(database)) == ["egg", "ham", "tea"]
    assert recorded(database) == 3


def test_submitted_and_mapped_calls_have_a_transaction_each(database: str) -> None:
    @flow
    def from_threads() -> list[Any]:
        names = [f"item {n}" for n in range(20)]
        return [*pay.map(names).results(), pay_async.submit("async").result()]

    @flow
    async def from_the_loop() -> Any:
        return await pay.submit("late"), await pay_async.submit("later")

    assert sorted(from_threads.run().wait()[:-1]) == list(range(1, 21))
    assert from_the_loop.run().wait() == (22, "LATER")
    assert len(paid(database)) == recorded(database) == 23


def test_a_body_that_raises_leaves_no_row_and_a_failure(database: str) -> None:
    @checkpoint(transaction=True)
    def half(what: str) -> None:
        kitaru.connection().execute("insert into paid (what) values (%s)", (what,))
        raise LookupError("no money")

    @flow
    def buy() -> str:
        try:
            half("tea")
        except LookupError as error:
            return str(error)
        raise AssertionError

    assert buy.run().wait() == "no money"
    assert paid(database) == []
    assert (recorded(database), recorded(database, "failed")) == (0, 1)


def test_each_try_is_a_transaction_of_its_own(database: str) -> None:
    @checkpoint(transaction=True, retries=2)
    def third_time(what: str) -> int:
        RAN.append(what)
        kitaru.connection().execute("insert into paid (what) values (%s)", (f"{len(RAN)}",))
        if len(RAN) < 3:
            raise ConnectionError("again")
        return len(RAN)

    @flow
    def buy() -> int:
        return third_time("tea")

    assert buy.run().wait() == 3
    assert paid(database) == ["3"]
    assert (recorded(database), recorded(database, "failed")) == (1, 2)


def test_a_result_that_cannot_be_stored_leaves_no_row(database: str) -> None:
    @checkpoint(transaction=True)
    def odd(what: str) -> Any:
        kitaru.connection().execute("insert into paid (what) values (%s)", (what,))
        return threading.Lock()

    @flow
    def buy() -> None:
        odd("tea")

    with pytest.raises(KitaruExecutionError, match="lock"):
        buy.run().wait()
    assert paid(database) == []


def test_what_was_saved_and_logged_is_recorded_with_it(database: str) -> None:
    @checkpoint(transaction=True)
    def receipt(what: str) -> str:
        kitaru.connection().execute("insert into paid (what) values (%s)", (what,))
        kitaru.save("receipt", {"what": what})
        kitaru.log(cents=3)
        return "x" * 100_000  # large: its bytes are put elsewhere first

    @flow
    def buy() -> int:
        return len(receipt("tea"))

    handle = buy.run()
    assert handle.wait() == 100_000
    execution = kitaru.KitaruClient().executions.get(handle.exec_id)
    (call,) = execution.checkpoints
    assert call.metadata == {"cents": 3}
    assert [each.name for each in call.artifacts if each.kind == "saved"] or call.artifacts
    assert paid(database) == ["tea"]


def test_a_savepoint_may_fail_alone(database: str) -> None:
    @checkpoint(transaction=True)
    def parts() -> str:
        connection = kitaru.connection()
        connection.execute("insert into paid (what) values ('kept')")
        try:
            with connection.transaction():
                connection.execute("insert into paid (what) values ('dropped')")
                connection.execute("select 1 / 0")
        except psycopg.errors.DivisionByZero:
            pass
        with connection.transaction(force_rollback=True):
            connection.execute("insert into paid (what) values ('tried')")
        connection.execute("savepoint one; insert into paid (what) values ('x')")
        connection.execute("rollback to savepoint one")
        return "done"

    @flow
    def buy() -> str:
        return parts()

    assert buy.run().wait() == "done"
    assert paid(database) == ["kept"]
    assert recorded(database) == 1


def test_a_second_life_recalls_it_and_a_second_execution_does_not_reuse_it(database: str) -> None:
    @flow
    def buy() -> int:
        first = pay("tea")
        if len(RAN) < 2:
            RAN.append("failed")
            raise ValueError("after it")
        return first

    handle = buy.run()
    with pytest.raises(KitaruUserCodeError):
        handle.wait()
    assert kitaru.KitaruClient().executions.retry(handle.exec_id).wait() == 1
    assert RAN == ["tea", "failed"]
    assert buy.run().wait() == 2
    assert paid(database) == ["tea", "tea"]


# --- the end is not the body's --------------------------------------------------------------


def _commit(connection: Any) -> None:
    connection.commit()


def _rollback(connection: Any) -> None:
    connection.rollback()


def _close(connection: Any) -> None:
    connection.close()


def _autocommit(connection: Any) -> None:
    connection.autocommit = True


def _with(connection: Any) -> None:
    with connection:
        pass


def _sql(connection: Any) -> None:
    connection.execute(" -- the end\n /* of it */ COMMIT")


def _rollback_sql(connection: Any) -> None:
    connection.cursor().execute(b"rollback work")


def _composed(connection: Any) -> None:
    connection.execute(psycopg.sql.SQL("{}").format(psycopg.sql.SQL("commit")))


@pytest.mark.parametrize(
    "end", [_commit, _rollback, _close, _autocommit, _with, _sql, _rollback_sql, _composed]
)
def test_a_body_that_ends_the_transaction_is_refused_and_may_go_on(end: Any, database: str) -> None:
    @checkpoint(transaction=True)
    def ends_it() -> str:
        connection = kitaru.connection()
        connection.execute("insert into paid (what) values ('one')")
        with pytest.raises(KitaruUsageError, match=r"transaction=True") as refused:
            end(connection)
        connection.execute("insert into paid (what) values ('two')")
        return str(refused.value.code)

    @flow
    def buy() -> str:
        return ends_it()

    assert buy.run().wait() == "transaction-is-ours"
    assert paid(database) == ["one", "two"]
    assert recorded(database) == 1


@pytest.mark.parametrize("statements", ["commit", "commit; begin", "rollback and chain"])
def test_a_transaction_that_was_ended_by_a_trick_is_found_out(
    statements: str, database: str
) -> None:
    @checkpoint(transaction=True)
    def tricks() -> None:
        cursor = psycopg.ClientCursor(kitaru.connection())
        cursor.execute(statements)

    @flow
    def buy() -> None:
        tricks()

    with pytest.raises(KitaruExecutionError, match="has ended the transaction"):
        buy.run().wait()
    assert recorded(database) == 0


def test_an_async_body_is_refused_the_same(database: str) -> None:
    @checkpoint(transaction=True)
    async def ends_it() -> list[str]:
        connection = kitaru.async_connection()
        await connection.execute("insert into paid (what) values ('one')")
        codes = []
        for end in (
            connection.commit(),
            connection.rollback(),
            connection.close(),
            connection.set_autocommit(True),
            connection.execute("commit"),
            connection.__aenter__(),
        ):
            with pytest.raises(KitaruUsageError) as refused:
                await end
            codes.append(str(refused.value.code))
        async with connection.transaction():
            await connection.execute("insert into paid (what) values ('two')")
        return codes

    @flow
    async def buy() -> list[str]:
        return await ends_it()

    assert buy.run().wait() == ["transaction-is-ours"] * 6
    assert paid(database) == ["one", "two"]


def test_a_body_that_hides_a_failed_statement_has_failed(database: str) -> None:
    @checkpoint(transaction=True)
    def hides() -> str:
        connection = kitaru.connection()
        connection.execute("insert into paid (what) values ('one')")
        try:
            connection.execute("select 1 / 0")
        except psycopg.errors.DivisionByZero:
            pass
        return "fine"

    @flow
    def buy() -> str:
        return hides()

    with pytest.raises(KitaruExecutionError, match="a statement in its transaction had failed"):
        buy.run().wait()
    assert paid(database) == []


def test_a_deferred_constraint_fails_the_call(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(
            "alter table paid add constraint one unique (what) deferrable initially deferred"
        )

    @flow
    def buy() -> str:
        pay("tea")
        try:
            pay("tea")
        except psycopg.errors.UniqueViolation:
            return "refused"
        return "bought twice"

    assert buy.run().wait() == "refused"
    assert paid(database) == ["tea"]
    assert (recorded(database), recorded(database, "failed")) == (1, 1)


# --- in the right place ----------------------------------------------------------------------


def test_outside_such_a_body_there_is_no_connection(database: str) -> None:
    @checkpoint
    def plain() -> str:
        with pytest.raises(KitaruContextError) as refused:
            kitaru.connection()
        return str(refused.value.code)

    @flow
    def buy() -> str:
        with pytest.raises(KitaruContextError) as refused:
            kitaru.async_connection()
        assert refused.value.code == "outside-transaction"
        return plain()

    assert buy.run().wait() == "outside-transaction"
    with pytest.raises(KitaruContextError, match="a unit test"):
        pay.func("tea")


def test_each_kind_of_function_has_its_kind_of_connection(database: str) -> None:
    @checkpoint(transaction=True)
    def plain() -> str:
        with pytest.raises(KitaruContextError, match=r"use kitaru\.connection\(\)"):
            kitaru.async_connection()
        return "plain"

    @checkpoint(transaction=True)
    async def waits() -> str:
        with pytest.raises(KitaruContextError, match=r"use kitaru\.async_connection\(\)"):
            kitaru.connection()
        return "async"

    @flow
    def buy() -> tuple[str, str]:
        return plain(), waits.submit().result()

    assert buy.run().wait() == ("plain", "async")


def test_nothing_else_is_called_in_such_a_body(database: str) -> None:
    @checkpoint
    def other() -> None:
        raise AssertionError

    @flow
    def child() -> None:
        raise AssertionError

    @checkpoint(transaction=True)
    def calls_others() -> list[str]:
        codes = []
        for call in (other, other.submit, lambda: pay("tea"), child.run):
            with pytest.raises(KitaruContextError) as refused:
                call()
            codes.append(str(refused.value.code))
        return codes

    @flow
    def buy() -> list[str]:
        return calls_others()

    assert buy.run().wait() == ["inside-transaction"] * 4
    assert RAN == []


def test_a_connection_that_was_kept_is_of_no_use_later(database: str) -> None:
    kept: list[Any] = []

    @checkpoint(transaction=True)
    def keeps() -> None:
        kept.append(kitaru.connection())
        kept[0].execute("insert into paid (what) values ('tea')")

    @flow
    def buy() -> str:
        keeps()
        with pytest.raises(KitaruContextError, match="is over") as refused:
            kept[0].execute("insert into paid (what) values ('more')")
        return str(refused.value.code)

    assert buy.run().wait() == "attempt-is-over"
    assert paid(database) == ["tea"]


def test_one_body_leaves_nothing_in_the_session_of_the_next(database: str) -> None:
    @checkpoint(transaction=True)
    def leaves_traces(n: int) -> str:
        connection = kitaru.connection()
        found = connection.execute("show search_path").fetchone()
        connection.execute("set search_path to pg_catalog")
        connection.execute("create temporary table t (n int)")
        for _ in range(10):
            connection.execute("select %s::int", (n,))
        assert found is not None
        return str(found[0])

    @flow
    def buy() -> list[str]:
        return [leaves_traces(n) for n in range(3)]

    assert buy.run().wait() == ['"$user", public'] * 3


def test_a_plain_one_is_not_called_on_the_loop(database: str) -> None:
    @flow
    async def buy() -> str:
        with pytest.raises(KitaruContextError, match=r"await pay\.submit") as refused:
            pay("tea")
        return str(refused.value.code)

    assert buy.run().wait() == "event-loop-would-block"


def test_a_body_may_work_as_another_role(database: str) -> None:
    role = f"shop_{secrets.token_hex(6)}"
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(f"create role {role}; grant insert on paid to {role}".encode())
        admin.execute(f"grant usage on sequence paid_id_seq to {role}".encode())
    try:

        @checkpoint(transaction=True)
        def as_shop() -> str:
            connection = kitaru.connection()
            connection.execute(f"set local role {role}".encode())
            connection.execute("insert into paid (what) values (current_user)")
            return "done"

        @flow
        def buy() -> str:
            return as_shop()

        assert buy.run().wait() == "done"
        assert paid(database) == [role]
    finally:
        with psycopg.connect(database, autocommit=True) as admin:
            admin.execute(f"drop owned by {role}; drop role {role}".encode())


# --- options ---------------------------------------------------------------------------------


def test_what_cannot_go_together_is_refused_at_decoration() -> None:
    for options in ({"runtime": "process"}, {"runtime": "isolated"}, {"effect": "once"}):
        with pytest.raises(KitaruUsageError, match="transaction=True"):
            checkpoint(transaction=True, **options)(pay.func)  # type: ignore[call-overload]
    with pytest.raises(KitaruUsageError, match="pass True or False"):
        checkpoint(transaction="yes")(pay.func)  # type: ignore[call-overload]


def test_a_store_in_a_file_has_no_transactions(own_store: Any) -> None:
    @flow
    def buy() -> str:
        with pytest.raises(KitaruFeatureNotAvailableError, match="KITARU_STORE") as refused:
            pay("tea")
        with pytest.raises(KitaruFeatureNotAvailableError):
            pay.submit("tea")
        return str(refused.value.code)

    assert buy.run().wait() == "transaction-needs-postgres"
    assert RAN == []


def test_nor_has_the_one_in_memory(own_store: Any) -> None:
    @flow
    def buy() -> str:
        with pytest.raises(KitaruFeatureNotAvailableError) as refused:
            pay("tea")
        return str(refused.value.code)

    with in_memory():
        assert buy.run().wait() == "transaction-needs-postgres"
    assert RAN == []
