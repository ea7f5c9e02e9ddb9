"""Whether a failed try is followed by another, and after how long.

Pure: the attempt's number, the clock and the die are handed in, the answer is
a delay in seconds or "stop". Who waits, and where the delay is recorded, is
the engine's affair.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, timedelta

from kitaru._core.names import shortened
from kitaru.errors import KitaruContextError, KitaruUsageError, KitaruValueError
from kitaru.retrying import Retry

PROGRAMMING_ERRORS: tuple[type[BaseException], ...] = (
    TypeError,
    NameError,
    AttributeError,
    SyntaxError,
    ImportError,
    NotImplementedError,
    KitaruUsageError,
    KitaruContextError,
    KitaruValueError,
)
"""Errors that another try cannot mend. AssertionError, KeyError, ValueError and
IndexError are not among them: answers of models and services raise them too,
and the next answer may be another."""

MAX_RETRIES = 999_999

MAX_RETRY_AFTER_SECONDS = 24 * 3600.0
"""A service that asks for more than a day is not obeyed to the letter."""


def as_policy(retries: object) -> Retry | None:
    """What ``retries=`` means: a :class:`kitaru.Retry`, or None for no second try.

    A number counts *extra* tries; anything else raises ``KitaruUsageError``.

    >>> as_policy(2).max_attempts
    3
    >>> as_policy(0) is None
    True
    """
    if isinstance(retries, Retry):
        return retries
    count = check_retries(retries, "retries", or_else=", or a kitaru.Retry")
    return Retry(max_attempts=count + 1) if count else None


def check_retries(retries: object, said_by: str, *, or_else: str = "") -> int:
    """``retries`` if it is a number of extra tries; the error names ``said_by``."""
    if isinstance(retries, int) and not isinstance(retries, bool) and 0 <= retries <= MAX_RETRIES:
        return int(retries)
    raise KitaruUsageError(
        f"{said_by}={shortened(retries)}: pass the number of extra tries, "
        f"a whole number from 0 to {MAX_RETRIES:,}{or_else}",
        code="option-invalid",
    )


def decide(
    policy: Retry, *, attempts: int, exc: BaseException, jitter: float, now: int
) -> float | None:
    """Seconds to wait before the next try, or None if there is to be none.

    ``attempts`` counts the recorded failures, this one included; ``jitter`` is
    uniform in [0, 1); ``now`` is in microseconds since the epoch and serves a
    Retry-After that is a date.

    >>> decide(Retry(3, jitter=False), attempts=2, exc=OSError(), jitter=0.5, now=0)
    2.0
    >>> decide(Retry(3), attempts=3, exc=OSError(), jitter=0.5, now=0) is None
    True
    >>> decide(Retry(3), attempts=1, exc=TypeError(), jitter=0.5, now=0) is None
    True
    """
    if attempts >= policy.max_attempts or not is_retryable(policy, exc):
        return None
    delay = backoff_bound(policy, attempts)
    if policy.jitter:
        delay *= jitter
    return max([delay, *(_asked_delay(leaf, now) for leaf in _leaves(exc))])


def backoff_bound(policy: Retry, attempts: int) -> float:
    """The longest delay after this many failures: exponential, at most ``max_seconds``."""
    if policy.initial_seconds == 0:
        return 0.0
    try:
        grown = float(policy.initial_seconds) * float(policy.factor) ** (attempts - 1)
    except OverflowError:
        grown = math.inf
    return min(grown, float(policy.max_seconds))


def is_retryable(policy: Retry, exc: BaseException) -> bool:
    """Whether the policy retries this error at all.

    ``never_on`` wins. What is no ``Exception`` (KeyboardInterrupt, a
    cancellation) is never retried. A programming error is retried only if
    ``retry_on`` names its class or a programming error that it derives from:
    ``retry_on=(Exception,)`` does not name ``TypeError``. A group is retried
    if every error in it is, or if ``retry_on`` names the group's class and no
    error in it is excluded.
    """
    if not isinstance(exc, BaseExceptionGroup):
        return _is_retryable_leaf(policy, policy.retry_on, exc)
    wanted = policy.retry_on
    if wanted is not None and isinstance(exc, _groups_in(wanted)):
        wanted = None
    return all(_is_retryable_leaf(policy, wanted, leaf) for leaf in _leaves(exc, policy.never_on))


def _is_retryable_leaf(
    policy: Retry, wanted: tuple[type[BaseException], ...] | None, exc: BaseException
) -> bool:
    if not isinstance(exc, Exception) or isinstance(exc, policy.never_on):
        return False
    if isinstance(exc, PROGRAMMING_ERRORS):
        named = (t for t in wanted or () if issubclass(t, PROGRAMMING_ERRORS))
        return isinstance(exc, tuple(named))
    return wanted is None or isinstance(exc, wanted)


def _groups_in(classes: tuple[type[BaseException], ...]) -> tuple[type[BaseException], ...]:
    return tuple(t for t in classes if issubclass(t, BaseExceptionGroup))


def _leaves(
    exc: BaseException, whole: tuple[type[BaseException], ...] = ()
) -> Iterator[BaseException]:
    """The errors in a group of any depth, one that is in none as itself; ``whole`` stay whole."""
    pending = [exc]
    while pending:
        found = pending.pop()
        if isinstance(found, BaseExceptionGroup) and not isinstance(found, whole):
            pending.extend(found.exceptions)
        else:
            yield found


def _asked_delay(exc: BaseException, now: int) -> float:
    """What the error asks for by ``retry_after`` or a Retry-After header; 0.0 if nothing."""
    try:
        asked = getattr(exc, "retry_after", None)
        if asked is None:
            asked = _retry_after_header(exc)
        seconds = _as_seconds(asked, now)
    except Exception:
        # The error is user code: an attribute may raise, a header be nonsense.
        # A hint that cannot be read is no hint.
        return 0.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS) if seconds == seconds else 0.0


def _retry_after_header(exc: BaseException) -> object:
    # Clients of services hang the response on the error; urllib's error is the response.
    headers = getattr(getattr(exc, "response", exc), "headers", None)
    if headers is None:
        return None
    found = headers.get("retry-after")
    return found if found is not None else headers.get("Retry-After")


def _as_seconds(asked: object, now: int) -> float:
    if isinstance(asked, timedelta):
        return asked.total_seconds()
    if isinstance(asked, (int, float)) and not isinstance(asked, bool):
        return float(min(asked, MAX_RETRY_AFTER_SECONDS))
    if not isinstance(asked, str) or len(asked) > 100:
        return 0.0
    try:
        return float(asked)
    except ValueError:
        return _seconds_until(asked, now)


def _seconds_until(http_date: str, now: int) -> float:
    """RFC 9110, section 10.2.3: Retry-After may be a date instead of seconds."""
    from email.utils import parsedate_to_datetime

    at = parsedate_to_datetime(http_date)
    if at.tzinfo is None:  # "-0000": UTC, from a place that is not told
        at = at.replace(tzinfo=UTC)
    return at.timestamp() - now / 1_000_000
