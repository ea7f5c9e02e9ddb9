"""Control flow of ours through frames of the user's.

When an execution must leave this process (handed back, lost to another owner,
the store gone), its code is unwound by raising :class:`Unwind` in it: a
``BaseException``, so that ``except Exception`` does not swallow it. A bare
``except:`` can; then the next call of Kitaru raises it again.
"""

from __future__ import annotations

import enum


class Why(enum.Enum):
    """Why an execution leaves the process that ran it."""

    HANDED_BACK = "handed back"
    PARKED = "parked"
    LOST = "lost to another owner"
    STORE_FAILED = "the store cannot be written"
    CANCELLED = "cancelled"
    TIMED_OUT = "out of time"
    FORKED = "this process is a fork of the owner"


class Unwind(BaseException):
    """Raised through user code; never an outcome of it, never recorded."""

    def __init__(self, why: Why, message: str, error: BaseException | None = None) -> None:
        super().__init__(message)
        self.why = why
        self.error = error
