"""SQLAlchemy's connections and sessions: the only file that knows it."""

from __future__ import annotations

import asyncio
from typing import Any, Generic, NoReturn, TypeVar

import psycopg
from sqlalchemy import Connection, Engine, StaticPool, create_engine, event, exc
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncSession,
    async_scoped_session,
    create_async_engine,
)
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from kitaru._store.postgres.given import ASYNC, SYNC, Given, refused
from kitaru.errors import KitaruStateError, KitaruUsageError

S = TypeVar("S", Session, AsyncSession)

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
    driven = connection.connection.driver_connection
    if not isinstance(driven, psycopg.Connection):
        raise _driven_otherwise(given, driven)
    # What the driver begins by itself SQLAlchemy would not commit.
    began = None if connection.in_transaction() else connection.begin()
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
    driven = (await connection.get_raw_connection()).driver_connection
    if not isinstance(driven, psycopg.AsyncConnection):
        raise _driven_otherwise(given, driven)
    began = None if connection.in_transaction() else await connection.begin()
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


# --- sessions on the connection of a checkpoint's transaction --------------------------------


def _ours(what: str) -> KitaruUsageError:
    return KitaruUsageError(
        f"{what} is not the body's to say in a checkpoint with transaction=True: its outcome is "
        "recorded in this transaction, which is committed when the body returns and rolled back "
        "when it raises. For a part that may fail alone use `with session.begin_nested():`",
        code="transaction-is-ours",
    )


class BodySession(Session):
    """A session like any, but for the end of its transaction."""

    def begin(self, nested: bool = False) -> SessionTransaction:
        if not nested:
            raise _ours("session.begin()")
        return super().begin(nested=True)

    def commit(self) -> NoReturn:
        raise _ours("session.commit()")

    def rollback(self) -> NoReturn:
        raise _ours("session.rollback()")

    def close(self) -> NoReturn:
        raise _ours("session.close()")

    def __enter__(self) -> NoReturn:
        raise _ours("`with` on the session, which closes it,")


class BodyAsyncSession(AsyncSession):
    """The same for ``async def`` bodies."""

    def begin(self) -> NoReturn:
        raise _ours("session.begin()")

    async def commit(self) -> NoReturn:
        raise _ours("session.commit()")

    async def rollback(self) -> NoReturn:
        raise _ours("session.rollback()")

    async def close(self) -> NoReturn:
        raise _ours("session.close()")

    async def __aenter__(self) -> NoReturn:
        raise _ours("`async with` on the session, which closes it,")


class Lease(Generic[S]):
    """A session while it is lent to a body."""

    def __init__(self, session: S, engine: Engine) -> None:
        self.session: S = session
        self._is_over = False
        self._was_rolled_back = False
        # The end of the transaction is not SQLAlchemy's. It goes back where it began, to be
        # rolled back there, and whoever has seen it done here is not told the contrary.
        engine.dialect.do_rollback = _nothing  # type: ignore[method-assign,assignment]
        event.listen(engine, "commit", self._refuse)
        event.listen(engine, "rollback", self._note)

    def _refuse(self, connection: Connection) -> None:
        raise _ours("commit()")

    def _note(self, connection: Connection) -> None:
        self._was_rolled_back = not self._is_over

    def flush(self) -> Any:
        """Send what is pending; where the body is async, what is awaited."""
        if self._was_rolled_back:
            raise KitaruUsageError(
                "the body returned although its session was rolled back, by a flush or a statement "
                "that failed: what it had written before would be committed. Let the error out, "
                "or put what may fail into `with session.begin_nested():`",
                code="transaction-aborted",
            )
        return self.session.flush()

    def end(self) -> None:
        """Let go of what it holds; the connection is not asked anything any more."""
        self._is_over = True
        lent: Any = self.session
        Session.close(lent.sync_session if isinstance(lent, AsyncSession) else lent)


def _nothing(*_: object) -> None:
    pass


def lease(connection: psycopg.Connection[Any]) -> Lease[Session]:
    """A session in the transaction of that connection."""
    engine = create_engine(_URL, creator=lambda: connection, **_AS_LENT)
    return Lease[Session](BodySession(engine), engine)


def lease_async(connection: psycopg.AsyncConnection[Any]) -> Lease[AsyncSession]:
    async def lent() -> psycopg.AsyncConnection[Any]:
        return connection

    engine = create_async_engine(_URL, async_creator=lent, **_AS_LENT)
    return Lease[AsyncSession](BodyAsyncSession(engine), engine.sync_engine)


_URL = "postgresql+psycopg://"
_AS_LENT: dict[str, Any] = {
    "poolclass": StaticPool,
    "pool_reset_on_return": None,
    # It would look for types, and teach them to the connection.
    "use_native_hstore": False,
}
