"""What other processes tell: heard over a connection of its own, on a thread of its own.

It sleeps until something arrives; what arrives at once is told as one hint. A connection that
is lost is made anew, later each time. Behind a pooler nobody hears anything: there the session
that listens is another one's with the next transaction, so it is not even tried.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable
from typing import LiteralString

import psycopg

from kitaru._store.postgres.connection import Connection, literal
from kitaru._store.postgres.telling import PAUSE_SECONDS, channel, hint_of
from kitaru._store.protocol import Hint
from kitaru.env import Env
from kitaru.errors import KitaruBackendError

FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 30.0
"""Between two tries to listen again."""

_JOIN_SECONDS = 1.0
"""How long a store that is closed waits for this thread: it may be connecting."""


class Listener:
    """Calls ``heard`` on its own thread. ``heard`` must not raise, and not wait."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        project: str,
        env: Env,
        heard: Callable[[Hint], None],
    ) -> None:
        self._connect = connect
        self._listen: LiteralString = literal(f'listen "{channel(project)}"')
        self._env = env
        self._heard = heard
        self._closing = threading.Event()
        self._bell, self._rope = socket.socketpair()
        self._is_pooled = False
        self.hears = False
        """Whether what is told now would be heard."""
        self._thread = threading.Thread(target=self._run, name="kitaru-listen", daemon=True)

    def start(self) -> None:
        # While the interpreter ends no thread starts: then nobody hears.
        with contextlib.suppress(RuntimeError):
            self._thread.start()

    def close(self) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._rope.send(b"!")
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)
        if not self._thread.is_alive():
            self._bell.close()
            self._rope.close()

    def _run(self) -> None:
        pause_seconds = FIRST_PAUSE_SECONDS
        while not self._closing.is_set() and not self._is_pooled:
            with contextlib.suppress(KitaruBackendError, psycopg.Error, OSError):
                self._hear()
            if self.hears:
                self.hears = False
                pause_seconds = FIRST_PAUSE_SECONDS
                # Whoever looks less often, because he would hear: he would not any more.
                self._heard(Hint(anything=True))
            self._closing.wait(pause_seconds * (0.75 + 0.5 * self._env.jitter()))
            pause_seconds = min(MAX_PAUSE_SECONDS, 2 * pause_seconds)

    def _hear(self) -> None:
        """Until the connection is lost, or all is closed."""
        connection = self._connect()
        with contextlib.closing(connection), selectors.DefaultSelector() as selector:
            if connection.is_pooled:
                self._is_pooled = True
                return
            connection.execute(self._listen)
            selector.register(connection.fileno(), selectors.EVENT_READ)
            selector.register(self._bell, selectors.EVENT_READ)
            self.hears = True
            # What was told before is lost: look once.
            self._heard(Hint(anything=True))
            while not self._closing.is_set():
                selector.select()
                hint = self._read(connection)
                if hint != Hint():
                    self._heard(hint)
                    # A storm becomes one hint each time.
                    self._closing.wait(PAUSE_SECONDS)

    def _read(self, connection: Connection) -> Hint:
        """All that has arrived; raises if the connection is lost."""
        hint, pgconn = Hint(), connection.pgconn
        pgconn.consume_input()
        while (told := pgconn.notifies()) is not None:
            if not hint.anything:
                hint = hint.and_also(hint_of(told.extra.decode("utf-8", "replace")))
        return hint
