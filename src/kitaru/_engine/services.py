"""What a running execution is given to work with, and what a process remembers between them."""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from kitaru._store.protocol import CodeRow, RecordedCode, Store
from kitaru.env import Env

if TYPE_CHECKING:
    from kitaru._engine.loop import LoopThread
    from kitaru._engine.pool import Pool

_MAX_CODES = 8
_MAX_SAMPLES = 64


class History:
    """What the store and this process know of a checkpoint's past: for the reasons of misses."""

    __slots__ = ("codes", "samples")

    def __init__(self, codes: list[RecordedCode | CodeRow], samples: deque[str]) -> None:
        self.codes = codes
        self.samples = samples


class Services:
    """The store, the environment and the executors, handed down from the composition root."""

    def __init__(
        self,
        *,
        store: Store,
        env: Env,
        project: str,
        root: str | None,
        bodies: Pool,
        loop: LoopThread,
    ) -> None:
        self.store = store
        self.env = env
        self.project = project
        self.root = root
        self.bodies = bodies
        self.loop = loop
        self.draining = False
        """Nothing new starts: executions hand themselves back at their next call."""
        self.importing = False
        """Kitaru itself is importing a module: nothing at its top level may start a flow."""
        self.gone = False
        """The process is about to end: nobody waits for bodies any more."""
        self._histories: dict[str, History] = {}
        self._said: set[Any] = set()
        self._lock = threading.Lock()

    def history(self, checkpoint: str) -> History:
        """What was recorded of this checkpoint before this process; read once."""
        found = self._histories.get(checkpoint)
        if found is None:
            codes = self.store.list_codes(
                project=self.project, checkpoint=checkpoint, limit=_MAX_CODES
            )
            samples: deque[str] = deque(maxlen=_MAX_SAMPLES)
            if codes:
                samples.extend(
                    self.store.sample_arguments(
                        codes[0].execution, checkpoint=checkpoint, limit=_MAX_SAMPLES
                    )
                )
            found = History(list(codes), samples)
            with self._lock:
                found = self._histories.setdefault(checkpoint, found)
        return found

    def say(self, text: str, *, once: Any = None) -> None:
        """A notice for people: one line on stderr, at most once for ``once``."""
        if once is not None:
            with self._lock:
                if once in self._said:
                    return
                self._said.add(once)
        notify(text)


def notify(text: str) -> None:
    """Write one line to stderr; a stderr that is closed or broken is nobody's failure."""
    try:
        sys.stderr.write(f"kitaru: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass
