"""Why a write had no effect."""

from __future__ import annotations

from kitaru._store.protocol.rows import ExecutionRow


class Refused(Exception):
    """A write's precondition did not hold; nothing changed. ``row`` is what stands there now."""

    def __init__(self, message: str, row: ExecutionRow | None = None) -> None:
        super().__init__(message)
        self.row = row


class Fenced(Refused):
    """The writer no longer owns the execution, or never did."""


class NotInState(Refused):
    """The execution is not in a state that allows the write."""


class NoRoom(Refused):
    """It may not begin now: as many as may of its queue, or with its key, run, or it is not due."""


class AlreadyRecorded(Refused):
    """The attempt, or the call, already has its outcome."""


class Missing(Refused):
    """No such execution, or (with its ``row``) no such wait of it."""
