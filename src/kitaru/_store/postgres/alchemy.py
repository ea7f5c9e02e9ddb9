"""SQLAlchemy's connections and sessions: the only file that knows it."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
from sqlalchemy import Connection, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from kitaru._store.postgres.given import ASYNC, SYNC, Given, refused
from kitaru.errors import KitaruStateError

_ASYNC_KINDS = (AsyncConnection, AsyncSession, async_scoped_session)


def opened(given: Any) -> Given:
    if isinstance(given, _ASYNC_KINDS):
        raise refused(given, ASYNC)
    if not isinstance(given, (Connection, Session, scoped_session)):
        raise refused(given, "is no connection: give a Connection or a Session")
    try:
        connection = given if isinstance(given, Connection) else given.connection()
    except exc.InvalidRequestError as error:
        raise _unusable(given, error) from error
    # What the driver begins by itself SQLAlchemy would not commit.
    began = None if connection.in_transaction() else connection.begin()
    driven = connection.connection.driver_connection
    if not isinstance(driven, psycopg.Connection):
        raise _driven_otherwise(given, driven)
    return Given(driven, _raised, lambda: None if began is None else began.rollback())


async def opened_async(given: Any) -> Given:
    if isinstance(given, (Connection, Session, scoped_session)):
        raise refused(given, SYNC)
    if not isinstance(given, _ASYNC_KINDS):
        raise refused(given, "is no connection: give an AsyncConnection or an AsyncSession")
    try:
        connection = given if isinstance(given, AsyncConnection) else await given.connection()
    except exc.InvalidRequestError as error:
        raise _unusable(given, error) from error
    began = None if connection.in_transaction() else await connection.begin()
    driven = (await connection.get_raw_connection()).driver_connection
    if not isinstance(driven, psycopg.AsyncConnection):
        raise _driven_otherwise(given, driven)
    loop = asyncio.get_running_loop()

    def left() -> None:
        if began is not None:
            asyncio.run_coroutine_threadsafe(began.rollback(), loop).result()

    return Given(driven, _raised, left)


def _raised(error: psycopg.Error) -> Exception:
    """As SQLAlchemy raises it: there is a loop that catches that, and looks at ``.orig``."""
    return exc.OperationalError("-- an execution of Kitaru is started", None, error)


def _driven_otherwise(given: object, driven: object) -> Exception:
    module = type(driven).__module__.partition(".")[0]
    return refused(
        given,
        f"is driven by {module}: make the engine with psycopg, "
        'create_engine("postgresql+psycopg://...")',
    )


def _unusable(given: object, error: Exception) -> Exception:
    """Its transaction has failed, or it is bound to several databases."""
    return KitaruStateError(
        f"options(connection=): the {type(given).__name__} gives no connection "
        f"({str(error).splitlines()[0]}): roll its transaction back if that has failed; give "
        "session.connection(...) itself if it is bound to several databases",
        code="connection-unfit",
    )
