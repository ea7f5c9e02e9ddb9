"""What a running execution is given to work with, and what a process remembers between them."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from kitaru._engine.asking import Asker
from kitaru._engine.drivers import drive, drive_async
from kitaru._engine.hints import Hints
from kitaru._engine.listeners import Events
from kitaru._engine.outage import Outage
from kitaru._engine.remote import Remote
from kitaru._engine.turns import Turns
from kitaru._store.protocol import CodeRow, RecordedCode, Store
from kitaru.env import Env
from kitaru.notices import notice

if TYPE_CHECKING:
    from kitaru._engine.logs import LogWriter
    from kitaru._engine.loop import LoopThread
    from kitaru._engine.pool import Pool
    from kitaru._engine.run import Run

_MAX_CODES = 8
_MAX_SAMPLES = 64
_MAX_COMPARED = 8
_MAX_SEEN = 10_000

GRACE_SECONDS = 5.0
"""What async code that is told to stop gets to end, before it is left or cancelled."""


class History:
    """What the store and this process know of a checkpoint's past: for the reasons of misses.

    Asked at every miss, so it answers from sets; only where every argument was
    seen before, but never together, are a few whole samples compared.
    """

    __slots__ = ("_kept", "_known", "_seen", "codes", "samples")

    def __init__(self, codes: list[RecordedCode | CodeRow], samples: list[str]) -> None:
        self.codes = codes
        self._known = {code.digest for code in codes}
        self._kept = {code.digest for code in codes if code.files is not None}
        self.samples: deque[str] = deque(samples, maxlen=_MAX_COMPARED)
        self._seen: dict[str, set[bytes]] = {}
        for sample in samples:
            recorded = json.loads(sample)
            self.add(sample, {name: bytes.fromhex(text) for name, text in recorded.items()})

    def add(self, sample: str, arguments: dict[str, bytes]) -> None:
        self.samples.append(sample)
        for name, digest in arguments.items():
            seen = self._seen.setdefault(name, set())
            if len(seen) < _MAX_SEEN:
                seen.add(digest)

    def knows(self, code: bytes) -> bool:
        """Whether this version of the checkpoint's code has been recorded."""
        return code in self._known

    def keeps(self, code: bytes) -> bool:
        """Whether it has been recorded together with its sources."""
        return code in self._kept

    def add_code(self, code: CodeRow) -> None:
        if code.digest not in self._known:
            self.codes.insert(0, code)
        self._known.add(code.digest)
        self._kept.add(code.digest)

    def unseen(self, arguments: dict[str, bytes]) -> list[str]:
        """Arguments whose values were never recorded; [] if there are no samples at all."""
        if not self._seen:
            return []
        seen = self._seen
        return [name for name, digest in arguments.items() if digest not in seen.get(name, ())]


class Services:
    """The store, the environment and the executors, handed down from the composition root."""

    draining = False
    """Nothing new starts: executions hand themselves back at their next call."""
    exiting = False
    """The main thread has ended, and the interpreter wants to."""
    importing = False
    """Kitaru itself is importing a module: nothing at its top level may start a flow."""
    is_silent = False
    """Nothing is said any more: a test has killed this life, and knows."""
    parks_at_once = False
    """Nothing that waits stays hot: in a world whose time passes while nothing runs."""
    grace_seconds = GRACE_SECONDS
    gone = False
    """The process is about to end: nobody waits for bodies any more."""

    def __init__(
        self,
        *,
        store: Store,
        env: Env,
        project: str,
        root: str | None,
        bodies: Pool,
        loop: LoopThread,
        logs: LogWriter | None = None,
        is_owner: Callable[[], bool] = lambda: True,
        max_transactions: int = 1,
    ) -> None:
        self.store = store
        self.env = env
        self.project = project
        self.root = root
        self.bodies = bodies
        self.loop = loop
        self.logs = logs
        """Keeps what executions print; None: nobody does."""
        self.events = Events()
        self.asker = Asker(store, env)
        self.asker.is_over = lambda: self.draining or self.exiting
        self.is_owner = is_owner
        """Whether this process may start something new: its lock, or its lease, holds. Cheap."""
        self.when_renewed: Callable[[Callable[[], object]], None] | None = None
        """Where processes have leases: call something once it may be otherwise."""
        self.silence: Callable[[], str | None] = lambda: None
        """Why others may have taken over what this process owned, if it was silent too long."""
        self.outage = loop.outage = Outage(self)
        self.remote = Remote(self.outage) if store.is_remote else None
        """None: the store is on this machine, and whoever asks it waits on the spot."""
        self.hints = Hints(store, env)
        self.drive = drive if self.remote is None else self.remote.drive
        self.drive_async = drive_async if self.remote is None else self.remote.drive_async
        self.transactions = Turns(max_transactions)
        """Bodies that have a transaction, and with it a connection."""
        self.slot_lent: Callable[[Run], AbstractContextManager[None]] = lambda run: nullcontext()
        """While inside, something of the run waits: its places among those that run are free."""
        self.limits_said: Mapping[str, int | None] = {}
        """The limits of queues and keys that this process has written."""
        self.reuse_scopes: dict[tuple[str, bytes], Any] = {}
        """(checkpoint, code) -> what its reuse keys begin with."""
        self._histories: dict[str, History] = {}
        self._kept_sources: set[bytes] = set()
        self.shown_elsewhere: frozenset[str] = frozenset()
        """Kinds of notices that a surface of this process shows better: not said."""
        self._said: set[Any] = set()
        self._lock = threading.Lock()

    def history(self, checkpoint: str) -> History:
        """What was recorded of this checkpoint before this process; read once."""
        found = self._histories.get(checkpoint)
        if found is None:
            codes = self.store.list_codes(
                project=self.project, checkpoint=checkpoint, limit=_MAX_CODES
            )
            samples = (
                self.store.sample_arguments(
                    codes[0].execution, checkpoint=checkpoint, limit=_MAX_SAMPLES
                )
                if codes
                else []
            )
            found = History(list(codes), samples)
            with self._lock:
                found = self._histories.setdefault(checkpoint, found)
        return found

    def not_kept_yet(self, sources: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """Those that this process has not given to the store; now it counts them as given."""
        with self._lock:
            new = {key: text for key, text in sources.items() if key not in self._kept_sources}
            self._kept_sources.update(new)
        return new

    def say(self, text: str, *, once: Any = None) -> None:
        """A notice for people: one line on stderr, at most once for ``once``."""
        if self.is_silent:
            return
        if once is not None:
            if once[0] in self.shown_elsewhere:
                return
            with self._lock:
                if once in self._said:
                    return
                self._said.add(once)
        notice(text)
