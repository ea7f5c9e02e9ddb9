"""A heartbeat that is overdue rides along with the next write, in its transaction.

Heartbeats have a connection of their own. Where that is broken, or their thread starved, and
what the process does is recorded all the same, the record proves that it lives: the renewal is
committed with it. While heartbeats are on time this costs the database nothing, and a store
whose owners need no lease does not ask.
"""

from __future__ import annotations

from kitaru._store.protocol import Late, Overdue


class Carrying:
    """What a store does that takes heartbeats along: asks, before it takes a write."""

    _late: Late | None = None

    def carry(self, late: Late) -> None:
        self._late = late

    def _overdue(self) -> Overdue | None:
        return None if self._late is None else self._late()
