"""Checks of options that more than one public call takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
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


def check_strings(option: str, values: Sequence[str]) -> tuple[str, ...]:
    # A set has no order, and an iterator could be read only once.
    listed = isinstance(values, (list, tuple))
    if not listed or not all(isinstance(value, str) for value in values):
        raise KitaruUsageError(
            f"{option}={shortened(values)}: pass a list of names", code="option-invalid"
        )
    return tuple(values)


_UNITS = {
    "": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate(("", "k", "M", "G", "T"))},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate(("K", "M", "G", "T"), 1)},
}

LEAST_MEMORY_BYTES = 64 * 1024 * 1024
"""An interpreter with what we load takes half of that before the body begins."""


def bytes_of(option: str, value: object) -> int:
    """An amount of memory: a number of bytes, or a text like ``512MiB`` or ``2GB``.

    >>> bytes_of("memory", "512MiB")
    536870912
    """
    found = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([kKMGT]?i?B|)\s*", str(value))
    plain = isinstance(value, (int, str)) and not isinstance(value, bool)
    if not plain or found is None or found[2] not in _UNITS:
        raise KitaruUsageError(
            f"{option}={shortened(value)}: pass a number of bytes, or a text like '512MiB', '2GB'",
            code="option-invalid",
        )
    count = int(float(found[1]) * _UNITS[found[2]])
    if not LEAST_MEMORY_BYTES <= count < 1 << 53:
        raise KitaruUsageError(
            f"{option}={shortened(value)}: pass at least {LEAST_MEMORY_BYTES // 1024**2} MiB, "
            "which the process takes for itself, and what the body needs",
            code="option-invalid",
        )
    return count
