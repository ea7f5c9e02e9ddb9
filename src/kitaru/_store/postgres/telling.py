"""What a process tells the others once it has committed, and how: by NOTIFY, as a hint.

A word says that something may be claimed (``q``) or that something happened to an execution
(its number). A hint may be lost and nothing is: whoever hears looks at the tables, and looks
there untold too. Told after the commit, on a thread and a connection that nobody waits for:
a transaction that notifies holds a lock of the whole server until its commit is on disk, and
this one has nothing to put there.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Any

from kitaru._core.lifecycle import State
from kitaru._store.protocol import (
    Answer,
    Expire,
    Finish,
    Fire,
    GiveUp,
    Hint,
    Park,
    Release,
    Retry,
    SetLimits,
    Start,
    Wake,
)

QUEUED = "q"
ANYTHING = "*"

MAX_WORDS = 100
"""In one message, which PostgreSQL takes up to 8,000 bytes long; of more it says: anything."""

PAUSE_SECONDS = 0.02
"""Between two messages: what is to be told meanwhile goes with the second."""

LAST_WORDS_SECONDS = 1.0
"""How long a process that ends waits until it was told."""


def channel(project: str) -> str:
    """The channel of a project, whatever its name holds.

    >>> channel("demo")
    'kitaru_8cf40c6846431c20'
    """
    return f"kitaru_{blake2b(project.encode(), digest_size=8).hexdigest()}"


def payload_of(words: Iterable[str]) -> str:
    """One message: as few words as say it.

    >>> payload_of({"q", "17"})
    '17 q'
    >>> payload_of(map(str, range(1000)))
    '*'
    """
    said = sorted(words)
    return " ".join(said) if len(said) <= MAX_WORDS and ANYTHING not in said else ANYTHING


def hint_of(payload: str) -> Hint:
    """What a message may mean; one that is none of ours means anything, which costs a look.

    >>> hint_of("17 q")
    Hint(queued=True, executions=frozenset({17}), anything=False)
    >>> hint_of("drop table").anything
    True
    """
    words = payload.split(" ", MAX_WORDS)
    numbers = {word for word in words if word.isascii() and word.isdigit() and len(word) < 20}
    if len(words) > MAX_WORDS or not set(words) <= numbers | {QUEUED}:
        return Hint(anything=True)
    return Hint(QUEUED in words, frozenset(map(int, numbers)))


# --- what a write tells ------------------------------------------------------------------------


def _started(write: Any, answer: Any) -> Iterator[str]:
    if answer is not None and answer.created and answer.row.status is State.PENDING:
        yield QUEUED


def _ended(write: Any, answer: Any) -> Iterator[str]:
    yield str(write.execution)


def _let_go(write: Any, answer: Any) -> Iterator[str]:
    if answer is State.PENDING:
        yield QUEUED
    if answer is not State.WAITING:
        yield str(write.execution)


def _moved(write: Any, answer: Any) -> Iterator[str]:
    if answer is not False:
        yield QUEUED
        yield str(write.execution)


def _answered(write: Any, answer: Any) -> Iterator[str]:
    yield str(write.execution)
    if answer.status is State.PENDING:
        yield QUEUED


def _limited(write: Any, answer: Any) -> Iterator[str]:
    if answer:
        yield QUEUED


_TELLS: dict[type, Callable[[Any, Any], Iterable[str]]] = {
    Start: _started,
    Fire: _started,
    Release: _let_go,
    Park: _let_go,
    Finish: _ended,
    GiveUp: _ended,
    Retry: _moved,
    Wake: _moved,
    Expire: _moved,
    Answer: _answered,
    SetLimits: _limited,
}
"""Of what is not here others need not know at once. A record above all: nobody waits for it."""


def words_of(write: Any, answer: Any) -> Iterable[str]:
    """What others may want to know of a write that was answered so."""
    tells = _TELLS.get(type(write))
    return () if tells is None else tells(write, answer)


# --- telling it --------------------------------------------------------------------------------


class Teller:
    """Sends words in few messages. Its lock guards them, and is never held while it sends."""

    def __init__(self, send: Callable[[str], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._words: set[str] = set()
        self._is_sending = False
        self._silent = threading.Condition(self._lock)
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.messages = 0
        """How many were sent."""

    def tell(self, words: Iterable[str]) -> None:
        """Have it told soon. Never raises over it, and waits for nothing."""
        with self._lock:
            self._words.update(words)
            if self._thread is None and not self._closing.is_set():
                self._begin()
        self._wake.set()

    def _begin(self) -> None:
        thread = threading.Thread(target=self._run, name="kitaru-tell", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return  # The interpreter is ending: others look by themselves.
        self._thread = thread
        _tellers.add(self)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait()
            self._wake.clear()
            with self._lock:
                words, self._words = self._words, set()
                self._is_sending = bool(words)
            if words:
                # Whatever it is: a hint is not worth a thread, and the next may arrive.
                with contextlib.suppress(Exception):
                    self._send(payload_of(words))
                    self.messages += 1
                with self._lock:
                    self._is_sending = False
                    self._silent.notify_all()
                self._closing.wait(PAUSE_SECONDS)

    def flush(self, seconds: float) -> bool:
        """Wait until all is told; False: it was not within ``seconds``."""
        with self._silent:
            return self._thread is None or self._silent.wait_for(
                lambda: not self._words and not self._is_sending, seconds
            )

    def close(self) -> None:
        self.flush(LAST_WORDS_SECONDS)
        self._closing.set()
        self._wake.set()


_tellers: weakref.WeakSet[Teller] = weakref.WeakSet()


def _say_last_words() -> None:
    """A command that answers and ends must be heard; the threads still run here."""
    for teller in list(_tellers):
        teller.flush(LAST_WORDS_SECONDS)


atexit.register(_say_last_words)
