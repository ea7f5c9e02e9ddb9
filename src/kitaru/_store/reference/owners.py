"""Processes in the model of a store: who is registered, whose lease runs, who is dead.

Dead is for ever: no write gives life back to one that was declared dead.
"""

from __future__ import annotations

from kitaru._store.protocol import (
    AlreadyRecorded,
    Beat,
    Beaten,
    DeclareDead,
    Owner,
    Reap,
    RegisterOwner,
)
from kitaru._store.reference.tables import Tables


class Owners(Tables):
    def _register_owner(self, write: RegisterOwner) -> Owner:
        if any(owner.lock_name == write.lock_name for owner in self._owners.values()):
            raise AlreadyRecorded(f"{write.lock_name} is registered already")
        owner = Owner(
            len(self._owners) + 1, write.lock_name, write.pid, write.host, write.at, died_at=None
        )
        if write.lease_seconds is not None:
            until = write.at + _microseconds(write.lease_seconds)
            owner = owner._replace(lease_until=until, steady_since=write.at)
        self._owners[owner.id] = owner
        return owner

    def _declare_dead(self, write: DeclareDead) -> bool:
        owner = self._owners.get(write.owner)
        if owner is None or owner.died_at is not None:
            return False
        if owner.lease_until is not None and not write.itself:
            return False
        self._bury(owner, write.at)
        return True

    def _beat(self, write: Beat) -> Beaten:
        owner = self._owners.get(write.owner)
        if owner is None or owner.died_at is not None:
            return Beaten(write.at, lease_until=None)
        ran_on = owner.lease_until is not None and owner.lease_until >= write.at
        until = write.at + _microseconds(write.lease_seconds)
        self._owners[owner.id] = owner._replace(
            lease_until=until, steady_since=owner.steady_since if ran_on else write.at
        )
        return Beaten(write.at, until)

    def _reap(self, write: Reap) -> list[Owner]:
        leased = [
            (owner.lease_until, owner.id, owner)
            for owner in self._owners.values()
            if owner.died_at is None and owner.lease_until is not None
        ]
        steady_since = [
            owner.steady_since
            for until, _, owner in leased
            if until >= write.at and owner.steady_since is not None
        ]
        patience = _microseconds(write.patience_seconds)
        if not any(since <= write.at - patience for since in steady_since):
            return []
        over = sorted(each for each in leased if each[0] < write.at)[: write.limit]
        return [self._bury(owner, write.at) for _, _, owner in over]

    def _bury(self, owner: Owner, at: int) -> Owner:
        """Dead from now on. Every death passes here."""
        dead = owner._replace(died_at=at)
        self._owners[owner.id] = dead
        self._workers.pop(owner.id, None)
        return dead

    def _is_alive(self, owner: int) -> bool:
        return owner in self._owners and self._owners[owner].died_at is None

    def _may_lose(self, owner: int) -> bool:
        """Whether what this process owns may be taken from it."""
        standing = self._owners.get(owner)
        return standing is None or standing.died_at is not None or standing.lease_until is None


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)
