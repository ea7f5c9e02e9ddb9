"""How a failing checkpoint is tried again, as a program says it.

What follows from it is decided in ``_core/retry.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from kitaru.errors import KitaruUsageError


@dataclass(frozen=True, slots=True)
class Retry:
    """How a failing checkpoint is tried again: exponential backoff with full jitter.

    ``max_attempts`` counts the first try too. The delay before attempt *k + 1*
    is uniform in ``[0, min(max_seconds, initial_seconds * factor ** (k - 1))]``
    (full jitter after the AWS Architecture Blog, "Exponential Backoff And
    Jitter"); with ``jitter=False`` it is that upper bound itself. A
    ``retry_after`` that the error carries is honoured where it is longer.
    Programming errors (``TypeError``, ``NameError`` and their like) are not
    retried unless ``retry_on`` names them; ``never_on`` always wins.

    >>> Retry(max_attempts=3).max_attempts
    3
    """

    max_attempts: int = 3
    initial_seconds: float = 1.0
    factor: float = 2.0
    max_seconds: float = 60.0
    jitter: bool = True
    retry_on: tuple[type[BaseException], ...] | None = None
    never_on: tuple[type[BaseException], ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int):
            raise KitaruUsageError(
                f"Retry(max_attempts={self.max_attempts!r}): pass a whole number, 1 or more",
                code="option-invalid",
            )
        if not 1 <= self.max_attempts <= 1_000_000:
            raise KitaruUsageError(
                f"Retry(max_attempts={self.max_attempts}): pass a number from 1 to 1,000,000",
                code="option-invalid",
            )
        for name, least in (("initial_seconds", 0.0), ("factor", 1.0), ("max_seconds", 0.0)):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not least <= value <= 1e9:
                raise KitaruUsageError(
                    f"Retry({name}={value!r}): pass a number from {least} to 1e9",
                    code="option-invalid",
                )
        for name in ("retry_on", "never_on"):
            value = getattr(self, name)
            if isinstance(value, type):
                value = (value,)
            if value is not None:
                value = tuple(value) if isinstance(value, (list, tuple, set)) else (value,)
                if not all(isinstance(t, type) and issubclass(t, BaseException) for t in value):
                    raise KitaruUsageError(
                        f"Retry({name}={value!r}): pass exception classes, "
                        "for example retry_on=(ConnectionError,)",
                        code="option-invalid",
                    )
            object.__setattr__(self, name, value)
