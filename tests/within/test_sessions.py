"""``kitaru.session()``: what is added is committed with the outcome of the call, or not at all."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import psycopg
import pytest
from sqlalchemy import exc, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import kitaru
from kitaru import KitaruContextError, KitaruUserCodeError, checkpoint, flow

from .kit import PATIENCE_SECONDS, executions, is_there, order, orders, ship


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    number: Mapped[int] = mapped_column(primary_key=True)


@checkpoint(transaction=True)
def place(number: int) -> int:
    session = kitaru.session()
    assert session is kitaru.session()
    session.add(Order(number=number))
    return number


@checkpoint(transaction=True)
async def place_later(number: int) -> int:
    session = kitaru.async_session()
    assert session is kitaru.async_session()
    session.add(Order(number=number))
    return number


@checkpoint(transaction=True)
def place_and_fail(number: int) -> None:
    kitaru.session().add(Order(number=number))
    kitaru.session().flush()
    raise ZeroDivisionError


@checkpoint(transaction=True)
async def place_later_and_fail(number: int) -> None:
    kitaru.async_session().add(Order(number=number))
    await kitaru.async_session().flush()
    raise ZeroDivisionError


def only_once(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("create unique index on orders (number)")


BODIES: dict[str, Any] = {
    each.func.__name__: each for each in (place, place_later, place_and_fail, place_later_and_fail)
}


@flow
def shop(body: str, number: int) -> object:
    return BODIES[body].submit(number).result()


@pytest.mark.parametrize("body", ["place", "place_later"])
def test_what_is_pending_is_committed_with_the_outcome(database: str, body: str) -> None:
    assert shop.run(body, 7).wait(timeout=PATIENCE_SECONDS) == 7
    assert orders(database) == [7]


@pytest.mark.parametrize("body", ["place_and_fail", "place_later_and_fail"])
def test_what_was_flushed_goes_with_the_failure(database: str, body: str) -> None:
    with pytest.raises(KitaruUserCodeError):
        shop.run(body, 7).wait(timeout=PATIENCE_SECONDS)
    assert orders(database) == []


def test_what_cannot_be_flushed_is_the_failure_of_the_body(database: str) -> None:
    only_once(database)
    shop.run("place", 7).wait(timeout=PATIENCE_SECONDS)
    with pytest.raises(KitaruUserCodeError, match="IntegrityError"):
        shop.options(key="again").run("place", 7).wait(timeout=PATIENCE_SECONDS)
    assert orders(database) == [7]


@checkpoint(transaction=True)
def end_it(how: str) -> str:
    session = kitaru.session()
    session.add(Order(number=7))
    with pytest.raises(kitaru.KitaruUsageError) as refused:
        {
            "commit": session.commit,
            "rollback": session.rollback,
            "close": session.close,
            "begin": session.begin,
            "with": session.__enter__,
            "connection": lambda: session.connection().commit(),
            "transaction": lambda: session.get_transaction().commit(),  # type: ignore[union-attr]
        }[how]()
    return str(refused.value.code)


@flow
def ending(how: str) -> str:
    return end_it(how)


@pytest.mark.parametrize("how", ["commit", "rollback", "close", "begin", "with", "transaction"])
def test_the_end_of_the_transaction_is_not_the_sessions(database: str, how: str) -> None:
    assert ending.run(how).wait(timeout=PATIENCE_SECONDS) == "transaction-is-ours"
    assert orders(database) == [7]


def test_nor_is_that_of_its_connection(database: str) -> None:
    with pytest.raises(kitaru.KitaruError, match="rolled back"):
        ending.run("connection").wait(timeout=PATIENCE_SECONDS)
    assert orders(database) == []


@checkpoint(transaction=True)
def place_some(numbers: list[int]) -> int:
    session, placed = kitaru.session(), 0
    for number in numbers:
        try:
            with session.begin_nested():
                session.add(Order(number=number))
            placed += 1
        except exc.IntegrityError:
            pass
    return placed


@checkpoint(transaction=True)
def swallow(numbers: list[int]) -> int:
    session = kitaru.session()
    session.add(Order(number=numbers[0]))
    session.flush()
    with pytest.raises(exc.SQLAlchemyError):
        session.execute(text("select :missing"))
    session.add(Order(number="no number"))  # type: ignore[arg-type]
    with pytest.raises(exc.SQLAlchemyError):
        session.flush()
    return 1


@flow
def some(numbers: list[int], *, swallowing: bool = False) -> int:
    return (swallow if swallowing else place_some)(numbers)


def test_a_part_may_fail_alone(database: str) -> None:
    only_once(database)
    assert some.run([7, 8, 7]).wait(timeout=PATIENCE_SECONDS) == 2
    assert orders(database) == [7, 8]


def test_a_rollback_that_was_swallowed_commits_nothing(database: str) -> None:
    with pytest.raises(kitaru.KitaruError, match="begin_nested"):
        some.run([7], swallowing=True).wait(timeout=PATIENCE_SECONDS)
    assert orders(database) == []


@checkpoint(transaction=True)
def start_within(number: int, *, by_session: bool, fails: bool) -> str:
    order(kitaru.connection(), number)
    given: Any = kitaru.session() if by_session else kitaru.connection()
    handle = ship.options(connection=given).enqueue(number)
    if fails:
        raise ZeroDivisionError
    return handle.exec_id


@checkpoint(transaction=True)
async def start_within_later(number: int, *, by_session: bool, fails: bool) -> str:
    given: Any = kitaru.async_session() if by_session else kitaru.async_connection()
    handle = await ship.options(connection=given).enqueue_async(number)
    await kitaru.async_connection().execute("insert into orders values (%s)", (number,))
    if fails:
        raise ZeroDivisionError
    return handle.exec_id


@flow
def starting(number: int, *, is_async: bool, by_session: bool, fails: bool) -> str:
    body = start_within_later if is_async else start_within
    return body.submit(number, by_session=by_session, fails=fails).result()


@pytest.mark.parametrize("by_session", [False, True])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_flow_is_started_in_the_transaction_of_a_body(
    database: str, is_async: bool, by_session: bool
) -> None:
    options = {"is_async": is_async, "by_session": by_session}
    parent = starting.run(7, **options, fails=False)
    child = parent.wait(timeout=PATIENCE_SECONDS)
    found = kitaru.KitaruClient().executions.get(child)
    assert (found.parent_exec_id, found.inputs) == (parent.exec_id, {"order": 7})
    with pytest.raises(KitaruUserCodeError):
        starting.run(8, **options, fails=True).wait(timeout=PATIENCE_SECONDS)
    assert orders(database) == [7]
    assert len(executions(database)) == 3
    assert is_there(parent)


def test_outside_such_a_body_there_is_none(database: str) -> None:
    for ask in (kitaru.session, kitaru.async_session):
        with pytest.raises(KitaruContextError) as refused:
            ask()
        assert refused.value.code == "outside-transaction"


def test_a_program_without_it_is_told_what_to_install(database: str) -> None:
    program = (
        "import sys, kitaru\n"
        "sys.modules['sqlalchemy'] = None\n"
        "@kitaru.checkpoint(transaction=True)\n"
        "def place() -> None: kitaru.session()\n"
        "@kitaru.flow\n"
        "def shop() -> None: place()\n"
        "shop.run().wait()\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert "sqlalchemy[asyncio]>=2" in told.stderr
