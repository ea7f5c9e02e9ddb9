"""Recorded values of one execution, read some way ahead: they are asked for about in order.

Knows the store and the ids, and nothing of what the values are for.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence

from kitaru._core.payload import Payload
from kitaru._store.protocol import Store

WINDOW_CALLS = 64
"""Payloads fetched at once: a resume asks for them in about the order of recording."""


class Window:
    """``order``: the ids of the execution's recorded attempts, ascending. Safe for threads."""

    def __init__(self, store: Store, execution: int, order: Sequence[int]) -> None:
        self._store = store
        self._execution = execution
        self._order = order
        self._lock = threading.Lock()
        self._payloads: dict[int, Payload] = {}
        self._seconds: dict[int, float] = {}

    def payload_of(self, call: int) -> Payload:
        with self._lock:
            found = self._payloads.pop(call, None)
            if found is not None:
                return found
            loaded = self._store.load_payloads(self._execution, self._from(call))
            self._payloads = dict(loaded)
            return self._payloads.pop(call)

    def seconds_of(self, call: int) -> float:
        """How long a recorded body took; read for those who listen only."""
        with self._lock:
            found = self._seconds.pop(call, None)
            if found is not None:
                return found
            self._seconds = dict(self._store.load_seconds(self._execution, self._from(call)))
            return self._seconds.pop(call, 0.0)

    def learn_seconds(self, call: int) -> None:
        """Have what ``seconds_of`` answers for this one, so that it need not be read there."""
        with self._lock:
            if call not in self._seconds:
                self._seconds = dict(self._store.load_seconds(self._execution, self._from(call)))

    def _from(self, call: int) -> Sequence[int]:
        """The ids of this call and those that were recorded next."""
        first = bisect_left(self._order, call)
        return self._order[first : first + WINDOW_CALLS]
