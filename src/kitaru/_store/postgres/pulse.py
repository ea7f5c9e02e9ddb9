"""Heartbeats: over a connection of their own, behind nobody's transaction.

A server that does not answer for a heartbeat's time is given up and asked anew, so that
one lost packet does not cost the lease.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import psycopg

from kitaru._store.postgres.connection import Connection
from kitaru._store.postgres.errors import backend_error
from kitaru._store.rows import Row


class Pulse:
    """One connection, opened when it is needed and again after each failure."""

    def __init__(self, connect: Callable[[], Connection], place: str) -> None:
        self._connect = connect
        self._place = place
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def rows(self, sql: str, parameters: Row, *, seconds: float) -> list[Row]:
        """Run one statement; after ``seconds`` without an answer the connection is given up."""
        with self._lock:
            connection = self._connection
            if connection is None or connection.closed:
                connection = self._connection = self._connect()
            connection.answer_seconds = seconds
            try:
                return connection.ask(sql, parameters).rows
            except psycopg.Error as error:
                _close(connection)
                raise backend_error(error, self._place, "The lease was not renewed") from error

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            _close(connection)


def _close(connection: Connection) -> None:
    with contextlib.suppress(psycopg.Error):
        connection.close()
