"""The connections of one process to a store in PostgreSQL: opened, read on, closed.

None of them keeps a state between transactions, so that a pooler may stand in between. What is
lost, is opened anew by whoever needs it next. The one that writes is in ``database.py``.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from hashlib import blake2b
from typing import TypeVar

import psycopg

from kitaru._core.keeping import keep_for_ever
from kitaru._store.address import Address
from kitaru._store.postgres.connecting import BOUNDS, Bounds, Connector
from kitaru._store.postgres.connection import Connection
from kitaru._store.postgres.errors import backend_error, is_away
from kitaru._store.rows import Row
from kitaru.env import Env, SystemEnv, process
from kitaru.errors import KitaruBackendError

MAX_IDLE_READERS = 8

PAUSES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds before each try to connect anew: a server that is started again is there within them."""

LOOK_SECONDS = 2.0
"""How old an answer of ``changes()`` may be: one query each two seconds, of an idle process."""

_V = TypeVar("_V")


class Connections:
    """See the module. ``look_seconds``: how old an answer of ``changes`` may be."""

    def __init__(
        self,
        url: str,
        env: Env | None = None,
        *,
        bounds: Bounds = BOUNDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        address = url if isinstance(url, Address) else Address(url)
        self._env = env or SystemEnv()
        self.place = str(address)
        self._connector = Connector(address, self._env, bounds)
        self._pid = process.id
        self._closing = threading.Event()
        self._is_away = False
        """Whether the last try to connect failed: then one try is enough for the next."""
        self._idle: list[Connection] = []
        self._made: weakref.WeakSet[Connection] = weakref.WeakSet()
        """All that are open: a forked child must close none of them."""
        self._look_seconds = look_seconds
        self._looked: tuple[float, int] | None = None
        _all_open.add(self)

    # --- connecting ---

    def when_held(self, callback: Callable[[], object]) -> None:
        """Call it whenever the thread of a running event loop waits for the server."""
        self._connector.held = callback

    def connect(self, *, bounded: bool = True) -> Connection:
        """A new connection that commits each statement by itself: one try."""
        self.check_use()
        try:
            connection = self._connector.connect(bounded=bounded)
        except KitaruBackendError as error:
            self._is_away = error.code == "store-away"
            raise
        self._is_away = False
        self._made.add(connection)
        return connection

    def _connect_anew(self) -> Connection:
        """A new connection after a loss: a server that is being started is waited for a little."""
        pauses = list(PAUSES[:1] if self._is_away else PAUSES)
        while True:
            self._closing.wait(pauses.pop(0) * (0.75 + 0.5 * self._env.jitter()))
            try:
                return self.connect()
            except KitaruBackendError as error:
                if error.code != "store-away" or not pauses:
                    raise

    # --- reading: any thread, each with its own connection ---

    def read(self, sql: str, parameters: Row) -> list[Row]:
        return self._ask(lambda connection: connection.ask(sql, parameters).rows)

    def _ask(self, question: Callable[[Connection], _V]) -> _V:
        """Ask on a connection that is at hand; once more, on a new one, if that was lost."""
        self.check_use()
        try:
            return self._ask_one(self._take_reader(), question)
        except KitaruBackendError as error:
            if error.code != "store-away" or self._is_away:
                raise
        # The server was started anew, or a network forgot about us: the others are lost too.
        self._close_idle()
        return self._ask_one(self._connect_anew(), question)

    def _ask_one(self, connection: Connection, question: Callable[[Connection], _V]) -> _V:
        try:
            return question(connection)
        except psycopg.Error as error:
            if is_away(error):
                connection.close()
            raise backend_error(error, self.place, "Nothing was changed") from error
        finally:
            self._give_back(connection)

    def ask_beside(self, question: Callable[[Connection], _V]) -> _V:
        """Ask, once, on a connection beside the writer's; ``KitaruBackendError`` if it fails."""
        self.check_use()
        return self._ask_one(self._take_reader(), question)

    def _take_reader(self) -> Connection:
        # The list's methods are atomic: a connection is in one thread's hands.
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if not connection.closed:
                return connection
        return self.connect()

    def _give_back(self, connection: Connection) -> None:
        is_idle = connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
        if self._closing.is_set() or not is_idle or len(self._idle) >= MAX_IDLE_READERS:
            connection.close()
        else:
            self._idle.append(connection)

    def _close_idle(self) -> None:
        while self._idle:
            with contextlib.suppress(psycopg.Error, IndexError):
                self._idle.pop().close()

    def changes(self) -> int:
        """A digest of which transactions are over: it differs once anybody has committed.

        Asked for at most each ``look_seconds``; in between the last answer stands.
        """
        self.check_use()
        now = self._env.monotonic()
        looked = self._looked
        if looked is not None and 0 <= now - looked[0] < self._look_seconds:
            return looked[1]
        ((snapshot,),) = self.read("select pg_current_snapshot()::text", ())
        return self.saw(snapshot)

    def saw(self, snapshot: str) -> int:
        """Which transactions are over, by a query that was asked just now -> its digest."""
        found = int.from_bytes(blake2b(snapshot.encode(), digest_size=8).digest(), "big")
        self._looked = (self._env.monotonic(), found)
        return found

    def notify(self, channel: str, payload: str) -> None:
        """Tell whoever listens there, on any thread; one try, or ``KitaruBackendError``."""
        words = (channel, payload)
        self.ask_beside(lambda connection: connection.ask("select pg_notify($1, $2)", words))

    def describe(self) -> str:
        """How this process is connected, for people."""

        def told(connection: Connection) -> str:
            info = connection.info
            where = info.host if not info.host.startswith("/") else "a socket of this machine"
            how = "encrypted" if connection.pgconn.ssl_in_use else "not encrypted"
            # Where nobody can listen, everybody looks: people see why something takes a poll.
            pooled = ", through a pooler (no LISTEN: it polls)" if connection.is_pooled else ""
            return f"as {info.user} to {info.dbname} on {where}{pooled}, {how}"

        return self._ask(told)

    # --- life ---

    def check_use(self) -> None:
        """Refuse a forked child and a closed store."""
        if process.id != self._pid:
            raise KitaruBackendError(
                f"the store {self.place} was opened by a process of which this one is a fork, and "
                "a connection does not survive a fork. Start the child with multiprocessing's "
                "'spawn' method (or subprocess), or fork before Kitaru is used",
                code="store-forked",
            )
        if self._closing.is_set():
            raise KitaruBackendError(
                f"the store {self.place} was closed: open it again", code="store-closed"
            )

    def is_usable(self) -> bool:
        return not self._closing.is_set() and process.id == self._pid

    def close(self) -> None:
        if not self.is_usable():
            return
        self._closing.set()
        self._close_idle()

    def _leak(self) -> None:
        # To close them here would tell the server that the parent has left.
        keep_for_ever(list(self._made))
        self._idle = []


_all_open: weakref.WeakSet[Connections] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for connections in list(_all_open):
        connections._leak()


os.register_at_fork(after_in_child=_after_fork_in_child)
