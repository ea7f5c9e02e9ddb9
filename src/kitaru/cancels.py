"""Why something is cancelled: what goes on record with it, beside who did it."""

from __future__ import annotations

from kitaru._core.names import shortened
from kitaru.errors import KitaruUsageError

_MAX_REASON_CHARACTERS = 500


def checked_reason(reason: object) -> str:
    """Why something is cancelled, as one line for people; "" if nobody said.

    >>> checked_reason("wrong inputs")
    'wrong inputs'
    """
    if reason is None:
        return ""
    fits = isinstance(reason, str) and len(reason) <= _MAX_REASON_CHARACTERS
    if not fits or not str(reason).isprintable():
        raise KitaruUsageError(
            f"reason={shortened(reason)}: pass one line of text, at most "
            f"{_MAX_REASON_CHARACTERS} characters",
            code="option-invalid",
        )
    return str(reason)
