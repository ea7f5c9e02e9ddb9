"""Processes in the databases: who is registered, whose lease runs, who is dead.

The guards stand in the SQL, and one statement judges leases (`reap`); what a death
entails is in one place, however it came to be known.
"""

from __future__ import annotations

from kitaru._store.facts import Conflict, FactWrites
from kitaru._store.protocol import (
    AlreadyRecorded,
    Beat,
    Beaten,
    DeclareDead,
    Owner,
    Reap,
    RegisterOwner,
)
from kitaru._store.rows import Row


class OwnerWrites(FactWrites):
    def register_owner(self, write: RegisterOwner) -> Owner:
        values = (write.lock_name, write.pid, write.host, write.at)
        lease = None if write.lease_seconds is None else _microseconds(write.lease_seconds)
        try:
            (row,) = self._select(self._queries.register_owner, (*values, lease))
        except Conflict:
            raise AlreadyRecorded(
                f"a process with the lock file {write.lock_name!r} is registered already: "
                "make a fresh random name for each process"
            ) from None
        return Owner(*row)

    def declare_dead(self, write: DeclareDead) -> bool:
        return self._bury_owner(write.owner, write.at, itself=write.itself)

    def _bury_owner(self, owner: int, at: int, *, itself: bool = False) -> bool:
        """Declare it dead, with all that only the living have."""
        if not self._change(self._queries.declare_dead, (owner, at, int(itself))):
            return False
        self._change(self._queries.strike_off, (owner,))
        return True

    def beat(self, write: Beat) -> Beaten:
        found = self._select(self._queries.beat, beat_values(write))
        return Beaten(*found[0]) if found else Beaten(write.at, lease_until=None)

    def reap(self, write: Reap) -> list[Owner]:
        values = (_microseconds(write.patience_seconds), write.limit, write.at)
        reaped = [Owner(*row) for row in self._select(self._queries.reap, values)]
        for owner in reaped:
            self._change(self._queries.strike_off, (owner.id,))
        return sorted(reaped, key=lambda owner: (owner.lease_until or 0, owner.id))

    def _is_alive(self, owner: int) -> bool:
        found = self._select(self._queries.owner_by_id, (owner,))
        return bool(found) and Owner(*found[0]).died_at is None


def beat_values(write: Beat) -> Row:
    return (write.owner, _microseconds(write.lease_seconds), write.at)


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)
