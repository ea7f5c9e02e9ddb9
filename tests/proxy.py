"""A TCP proxy between a program and its database, which fails as networks do.

It reads as much of PostgreSQL's protocol as it takes to know what a message asks for, so
that a connection is cut just before the server learns of a COMMIT, or just after it has
done it and before the client learns of that. It also takes its time (``Pace``), for all
connections or for one, and may hold everything back for a while, as a network does that
was cut and healed: TCP is well, and sends again what nobody has confirmed.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

Fault = Callable[["Pair"], "bool | None"]
"""What happens to a connection; True: the message that struck it is passed on all the same."""

WAIT_SECONDS = 240.0


class Pace(NamedTuple):
    """How each direction passes on what comes: so many bytes at once, each after a pause."""

    seconds: float = 0.0
    bytes_at_once: int = 0
    """0: all that has come."""


AT_ONCE = Pace()


class Pair:
    """One client and its connection to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.swallows_answers = False
        """What the server says reaches nobody from now on."""
        self.pace: Pace | None = None
        """Its own; None: the proxy's."""

    def cut(self) -> None:
        for each in (self.client, self.server):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def cut_client(self) -> None:
        """The client alone sees it; the server has all that was sent, and goes on."""
        with contextlib.suppress(OSError):
            self.client.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Listens on ``port``. Arm it with a word and what happens to the message that has it."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._word: bytes | None = None
        self._after = False
        self._fault: Fault | None = None
        self.struck = threading.Event()
        self.is_refusing = False
        self.pace = AT_ONCE
        self._flows = threading.Event()
        self._flows.set()
        self._closing = threading.Event()
        self._open: list[Pair] = []
        self._threads: list[threading.Thread] = []
        self._begin(self._accept)

    def strike(self, word: str, fault: Fault, *, after: bool = False) -> None:
        """Once, at the next message of a client that holds ``word``: before it is passed on, or
        (``after``) once the server has answered it and before the client knows."""
        with self._lock:
            self._word, self._after, self._fault = word.encode(), after, fault
            self.struck.clear()

    def cut_all(self) -> None:
        for pair in list(self._open):
            pair.cut()

    def hold(self) -> None:
        """Half-open: connections are accepted, and no byte passes, until ``let_go``."""
        self._flows.clear()

    def let_go(self) -> None:
        """All that was held back arrives, in its order."""
        self._flows.set()

    def close(self) -> None:
        self._closing.set()
        self.let_go()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(WAIT_SECONDS)
        self.cut_all()
        for thread in self._threads:
            thread.join(WAIT_SECONDS)
        self._listener.close()
        for pair in self._open:
            pair.client.close()
            pair.server.close()

    # --- its threads ---

    def _begin(self, work: Callable[..., None], *more: Pair) -> None:
        thread = threading.Thread(target=work, args=more, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()  # the server is not there: nor are we
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = Pair(client, server)
            self._open.append(pair)
            self._begin(self._forth, pair)
            self._begin(self._back, pair)

    def _forth(self, pair: Pair) -> None:
        try:
            while data := pair.client.recv(1 << 16):
                fault, after = self._take(data)
                if fault is None:
                    self._pass_on(pair, pair.server, data)
                elif after:
                    pair.swallows_answers = True
                    self._armed = (pair, fault)
                    self._pass_on(pair, pair.server, data)
                else:
                    passes = fault(pair)
                    self.struck.set()
                    if passes:
                        self._pass_on(pair, pair.server, data)
        except OSError:
            pass
        finally:
            pair.cut()

    def _back(self, pair: Pair) -> None:
        try:
            while data := pair.server.recv(1 << 16):
                if not pair.swallows_answers:
                    self._pass_on(pair, pair.client, data)
                elif not self.struck.is_set():
                    armed, fault = self._armed
                    assert armed is pair
                    fault(pair)
                    self.struck.set()
        except OSError:
            pass
        finally:
            pair.cut()

    def _pass_on(self, pair: Pair, to: socket.socket, data: bytes) -> None:
        pace = pair.pace or self.pace
        step = pace.bytes_at_once or len(data)
        for start in range(0, len(data), step):
            if pace.seconds:
                self._closing.wait(pace.seconds)
            self._flows.wait()
            to.sendall(data[start : start + step])

    def _take(self, data: bytes) -> tuple[Fault | None, bool]:
        with self._lock:
            if self._fault is None or self._word is None or self._word not in data:
                return None, False
            fault, self._fault = self._fault, None
            return fault, self._after


@contextlib.contextmanager
def proxy(host: str, port: int) -> Iterator[Proxy]:
    made = Proxy(host, port)
    try:
        yield made
    finally:
        made.close()
