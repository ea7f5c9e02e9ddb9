"""Checks of options that more than one public call takes."""

from __future__ import annotations

from datetime import timedelta

from kitaru._core.names import shortened
from kitaru.errors import KitaruUsageError

_MAX_TIMEOUT_SECONDS = 1e9
"""Some thirty years: beyond it the platform's own waiting overflows."""


def check_timeout(timeout: object) -> None:
    """Refuse a timeout that is not None and no number of seconds from 0 to 1e9.

    >>> check_timeout(2.5)
    """
    if timeout is None:
        return
    number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not number or not 0 <= timeout <= _MAX_TIMEOUT_SECONDS:  # type: ignore[operator]
        raise KitaruUsageError(
            f"timeout={shortened(timeout)}: pass seconds, 0 or more, or None", code="option-invalid"
        )


def seconds_of(option: str, value: object) -> float | None:
    """A duration as seconds: a number or a timedelta, more than 0; None stays None.

    >>> seconds_of("timeout", timedelta(minutes=2))
    120.0
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds is None:
        return None
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not 0 < seconds <= _MAX_TIMEOUT_SECONDS:  # type: ignore[operator]
        raise KitaruUsageError(
            f"{option}={shortened(value)}: pass seconds, more than 0, or a timedelta",
            code="option-invalid",
        )
    return float(seconds)  # type: ignore[arg-type]


def check_text(option: str, text: object) -> None:
    """Refuse what is neither None nor a text that can be looked for.

    >>> check_text("flow", "hello")
    """
    if text is None:
        return
    if not isinstance(text, str) or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise KitaruUsageError(f"{option}={shortened(text)}: pass a text", code="option-invalid")
