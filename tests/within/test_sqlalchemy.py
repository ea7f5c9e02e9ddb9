"""SQLAlchemy's connections and sessions as ``connection=``."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, create_engine, exc, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session
from sqlalchemy.orm import sessionmaker as making

import kitaru
from kitaru import KitaruStateError, KitaruUsageError

from .kit import executions, is_there, orders, ship


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    number: Mapped[int] = mapped_column(primary_key=True)


Enqueue = Callable[[Any], "kitaru.FlowHandle[object]"]


def enqueue(connection: Any, number: int = 7) -> kitaru.FlowHandle[object]:
    return ship.options(connection=connection).enqueue(number)


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(database))
    yield engine
    engine.dispose()


@pytest.mark.parametrize("commits", [True, False])
def test_a_session_takes_it_along_with_its_rows(
    database: str, engine: Engine, commits: bool
) -> None:
    with Session(engine) as session:
        session.add(Order(number=7))
        handle = enqueue(session)
        assert not is_there(handle)
        (session.commit if commits else session.rollback)()
    assert is_there(handle) == commits
    assert (orders(database), len(executions(database))) == ([7] * commits, commits)


def test_a_session_without_other_rows_commits_it(database: str, engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        handle = enqueue(session)
    assert executions(database) == [handle.exec_id]


def test_a_nested_transaction_of_a_session_takes_it_along(database: str, engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        session.add(Order(number=7))
        with session.begin_nested() as nested:
            session.add(Order(number=8))
            lost = enqueue(session, 8)
            nested.rollback()
        kept = enqueue(session, 7)
    assert [is_there(lost), is_there(kept)] == [False, True]
    assert orders(database) == [7]


def test_a_scoped_session_is_one_too(database: str, engine: Engine) -> None:
    sessions = scoped_session(making(engine))
    handle = enqueue(sessions)
    sessions.commit()
    sessions.remove()
    assert is_there(handle)


@pytest.mark.parametrize("commits", [True, False])
def test_a_connection_commits_it_though_nothing_was_said_on_it_before(
    database: str, engine: Engine, commits: bool
) -> None:
    with engine.connect() as connection:
        handle = enqueue(connection)
        if commits:
            connection.commit()
    assert is_there(handle) == commits


def test_a_connection_whose_enqueue_was_refused_can_still_begin(
    database: str, engine: Engine
) -> None:
    ship.options(key="k").enqueue(7)
    with engine.connect() as connection:
        connection.execute(text("set default_transaction_read_only to on"))
        connection.commit()
        with pytest.raises(kitaru.KitaruBackendError):
            enqueue(connection)
        with connection.begin():
            assert connection.execute(text("select 1")).scalar() == 1


def test_an_async_one_whose_value_was_refused_can_still_begin(database: str) -> None:
    async def refused() -> None:
        engine = create_async_engine(
            "postgresql+psycopg://",
            async_creator=lambda: psycopg.AsyncConnection.connect(database),
        )
        async with engine.connect() as connection:
            with pytest.raises(kitaru.KitaruValueError):
                await ship.options(connection=connection).enqueue_async(object())
            async with connection.begin():
                assert (await connection.execute(text("select 1"))).scalar() == 1
        await engine.dispose()

    asyncio.run(refused())


def test_a_connection_without_transactions_starts_it_at_once(database: str, engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        handle = enqueue(connection)
        assert executions(database) == [handle.exec_id]


def test_a_race_is_told_as_sqlalchemy_tells_it(database: str, engine: Engine) -> None:
    strict = engine.execution_options(isolation_level="SERIALIZABLE")
    with Session(strict) as session:
        session.execute(text("select * from orders")).all()
        ship.options(key="k").enqueue(7)
        with pytest.raises(exc.OperationalError) as told:
            ship.options(key="k", connection=session).enqueue(7)
        assert isinstance(told.value.orig, psycopg.errors.SerializationFailure)
        session.rollback()
        ship.options(key="k", connection=session).enqueue(7)
        session.commit()
    assert len(executions(database)) == 1


def test_what_it_cannot_be_is_said(database: str, engine: Engine) -> None:
    def why(given: object, kind: type[Exception] = KitaruUsageError) -> str:
        with pytest.raises(kind) as refused:
            enqueue(given)
        assert getattr(refused.value, "code", None) == "connection-unfit"
        return str(refused.value)

    assert "give a Connection or a Session" in why(engine)
    with create_engine("sqlite://").connect() as other:
        assert "sqlite3" in why(other)
        assert "postgresql+psycopg" in why(other)
    with Session(engine) as session:
        session.execute(text("insert into orders values (7)"))
        session.add(Order(number=8))
        session.flush()
        with pytest.raises(exc.DBAPIError):
            session.execute(text("insert into orders values ('x')"))
        assert "roll" in why(session, KitaruStateError)
    with Session() as unbound:
        assert "bound" in why(unbound, KitaruStateError)
    assert executions(database) == []


def test_each_form_takes_its_own_kind(database: str, engine: Engine) -> None:
    later = create_async_engine("postgresql+psycopg://")

    async def swapped() -> None:
        for given in (AsyncSession(later), AsyncConnection(later)):
            with pytest.raises(KitaruUsageError, match="enqueue_async"):
                enqueue(given)
        with Session(engine) as session, pytest.raises(KitaruUsageError, match=r"\.enqueue\("):
            await ship.options(connection=session).enqueue_async(7)

    asyncio.run(swapped())


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("kind", [AsyncSession, AsyncConnection])
def test_what_is_awaited_takes_it_along(
    database: str, kind: type[AsyncSession | AsyncConnection], commits: bool
) -> None:
    async def enqueued() -> kitaru.FlowHandle[object]:
        engine = create_async_engine(
            "postgresql+psycopg://", async_creator=lambda: psycopg.AsyncConnection.connect(database)
        )
        async with kind(engine) as connection:
            handle = await ship.options(connection=connection).enqueue_async(7)
            await connection.execute(text("insert into orders values (7)"))
            await (connection.commit if commits else connection.rollback)()
        await engine.dispose()
        return handle

    handle = asyncio.run(enqueued())
    assert is_there(handle) == commits
    assert orders(database) == [7] * commits


def test_a_program_without_it_does_not_load_it(database: str) -> None:
    program = (
        "import os, sys, psycopg, kitaru\n"
        "@kitaru.flow\n"
        "def ship(order: int) -> int: return order\n"
        "with psycopg.connect(os.environ['KITARU_STORE']) as connection:\n"
        "    ship.options(connection=connection).enqueue(7)\n"
        "assert not [name for name in sys.modules if name.startswith('sqlalchemy')]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert len(executions(database)) == 1
