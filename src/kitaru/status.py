"""What an execution is doing, in a word.

Whoever only runs flows needs this, and none of the records that ``model.py`` has.
"""

from __future__ import annotations

import enum


class ExecutionStatus(enum.StrEnum):
    """What an execution is doing.

    ``interrupted`` is derived, never stored: recorded as running, owner known dead.
    """

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"

    @property
    def is_finished(self) -> bool:
        """Whether nothing more happens unless somebody retries."""
        return self in (self.COMPLETED, self.FAILED, self.CANCELLED)

    @property
    def is_successful(self) -> bool:
        """Whether it returned a result."""
        return self is self.COMPLETED
