from __future__ import annotations

import asyncio
import math
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitaru._core.retry import as_policy, decide, is_retryable
from kitaru.errors import KitaruContextError, KitaruUsageError, KitaruValueError
from kitaru.retrying import Retry

NOW = 1_700_000_000_000_000
DAY = 24 * 3600.0


def delay_of(
    policy: Retry, exc: BaseException, *, attempts: int = 1, jitter: float = 0.0
) -> float | None:
    return decide(policy, attempts=attempts, exc=exc, jitter=jitter, now=NOW)


def with_attributes(**attributes: object) -> OSError:
    error = OSError("busy")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


def test_a_number_counts_extra_tries() -> None:
    assert as_policy(2) == Retry(max_attempts=3)
    assert as_policy(0) is None


def test_a_policy_is_itself() -> None:
    policy = Retry(max_attempts=1)
    assert as_policy(policy) is policy


@pytest.mark.parametrize("retries", [-1, True, False, 1.0, math.nan, 10**9, "3", None, [1]])
def test_what_is_no_number_of_tries_is_refused(retries: object) -> None:
    with pytest.raises(KitaruUsageError, match=r"^retries=.*from 0 to 999,999"):
        as_policy(retries)


def test_the_last_attempt_is_the_last() -> None:
    policy = Retry(max_attempts=3)
    given_up = [delay_of(policy, OSError(), attempts=n) is None for n in (1, 2, 3, 4)]
    assert given_up == [False, False, True, True]


def test_delays_double_up_to_the_maximum_without_jitter() -> None:
    policy = Retry(max_attempts=9, initial_seconds=1, max_seconds=5, jitter=False)
    delays = [delay_of(policy, OSError(), attempts=n, jitter=0.1) for n in (1, 2, 3, 4, 5)]
    assert delays == [1, 2, 4, 5, 5]


def test_full_jitter_scales_the_whole_delay() -> None:
    policy = Retry(max_attempts=9, initial_seconds=2)
    assert delay_of(policy, OSError(), attempts=2, jitter=0.0) == 0.0
    assert delay_of(policy, OSError(), attempts=2, jitter=0.5) == 2.0


@given(
    st.integers(1, 999_999),
    st.floats(0, 1e9),
    st.floats(1, 1e9),
    st.floats(0, 1e9),
    st.floats(0, 1, exclude_max=True),
)
def test_a_delay_lies_between_zero_and_the_maximum(
    attempts: int, initial: float, factor: float, most: float, jitter: float
) -> None:
    policy = Retry(1_000_000, initial, factor, most)
    delay = delay_of(policy, OSError(), attempts=attempts, jitter=jitter)
    assert delay is not None
    assert 0 <= delay <= most


def test_growth_beyond_all_numbers_ends_at_the_maximum() -> None:
    policy = Retry(10, 1e9, 10**9, max_seconds=60, jitter=False)
    assert delay_of(policy, OSError(), attempts=9) == 60
    many = Retry(1_000_000, 0, 10**9, jitter=False)
    assert delay_of(many, OSError(), attempts=999_999) == 0


@pytest.mark.parametrize(
    "exc",
    [
        TypeError(),
        NameError(),
        UnboundLocalError(),
        AttributeError(),
        SyntaxError(),
        ImportError(),
        ModuleNotFoundError(),
        NotImplementedError(),
        KitaruUsageError(),
        KitaruContextError(),
        KitaruValueError("no"),
    ],
)
def test_programming_errors_are_retried_only_when_named(exc: Exception) -> None:
    assert not is_retryable(Retry(), exc)
    assert not is_retryable(Retry(retry_on=(Exception,)), exc)
    assert is_retryable(Retry(retry_on=(type(exc),)), exc)


def test_naming_a_programming_error_names_those_that_derive_from_it() -> None:
    assert is_retryable(Retry(retry_on=(NameError,)), UnboundLocalError())
    assert not is_retryable(Retry(retry_on=(UnboundLocalError,)), NameError())
    assert not is_retryable(Retry(retry_on=(ValueError,)), KitaruUsageError())


@pytest.mark.parametrize("exc", [AssertionError(), KeyError(), ValueError(), IndexError()])
def test_errors_that_another_answer_may_mend_are_retried(exc: Exception) -> None:
    assert is_retryable(Retry(), exc)


def test_retry_on_excludes_everything_else() -> None:
    policy = Retry(retry_on=(ConnectionError,))
    assert is_retryable(policy, ConnectionResetError())
    assert not is_retryable(policy, ValueError())


def test_never_on_wins() -> None:
    policy = Retry(retry_on=(OSError,), never_on=(ConnectionError,))
    assert is_retryable(policy, OSError())
    assert not is_retryable(policy, ConnectionResetError())


@pytest.mark.parametrize(
    "exc", [KeyboardInterrupt(), SystemExit(), GeneratorExit(), asyncio.CancelledError()]
)
def test_what_is_no_exception_is_never_retried(exc: BaseException) -> None:
    assert not is_retryable(Retry(retry_on=(BaseException, type(exc))), exc)
    assert not is_retryable(Retry(), BaseExceptionGroup("both", [OSError(), exc]))
    assert not is_retryable(
        Retry(retry_on=(BaseExceptionGroup,)), BaseExceptionGroup("both", [OSError(), exc])
    )


def test_a_group_is_retried_if_every_error_in_it_is() -> None:
    inner = ExceptionGroup("inner", [ValueError()])
    assert is_retryable(Retry(), ExceptionGroup("g", [OSError(), inner]))
    assert not is_retryable(Retry(), ExceptionGroup("g", [OSError(), TypeError()]))
    assert not is_retryable(Retry(retry_on=(OSError,)), ExceptionGroup("g", [OSError(), inner]))
    assert is_retryable(Retry(retry_on=(OSError,)), ExceptionGroup("g", [OSError()]))


def test_a_named_group_is_retried_unless_something_in_it_is_excluded() -> None:
    policy = Retry(retry_on=(ExceptionGroup,), never_on=(KeyError,))
    assert is_retryable(policy, ExceptionGroup("g", [ValueError()]))
    assert not is_retryable(policy, ExceptionGroup("g", [ValueError(), KeyError()]))
    assert not is_retryable(policy, ExceptionGroup("g", [TypeError()]))


class RateLimits(ExceptionGroup[Exception]):
    pass


def test_a_group_in_never_on_is_not_retried_wherever_it_stands() -> None:
    policy = Retry(never_on=(RateLimits,))
    assert not is_retryable(policy, RateLimits("g", [OSError()]))
    assert not is_retryable(policy, ExceptionGroup("g", [RateLimits("i", [OSError()])]))


def test_a_group_of_any_depth_is_judged() -> None:
    group: Exception = OSError()
    for _ in range(50_000):
        group = ExceptionGroup("g", [group])
    assert delay_of(Retry(), group) == 0.0
    while isinstance(group, ExceptionGroup):  # taken apart here: C recursion would overflow
        group = group.exceptions[0]


def in_an_hour() -> str:
    return format_datetime(datetime.fromtimestamp(NOW / 1e6 + 3600, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("exc", "seconds"),
    [
        (with_attributes(retry_after=7), 7),
        (with_attributes(retry_after=1.5), 1.5),
        (with_attributes(retry_after=timedelta(minutes=1)), 60),
        (with_attributes(retry_after="8"), 8),
        (with_attributes(response=SimpleNamespace(headers={"retry-after": "9"})), 9),
        (with_attributes(response=SimpleNamespace(headers={"Retry-After": "9"})), 9),
        (with_attributes(response=SimpleNamespace(headers={"retry-after": in_an_hour()})), 3600),
        (with_attributes(headers={"Retry-After": "10"}), 10),
        (ExceptionGroup("g", [with_attributes(retry_after=3), with_attributes(retry_after=4)]), 4),
        (with_attributes(retry_after=10**400), DAY),
        (with_attributes(retry_after=math.inf), DAY),
        (with_attributes(retry_after=timedelta.max), DAY),
    ],
)
def test_a_retry_after_is_honoured_up_to_a_day(exc: Exception, seconds: float) -> None:
    assert delay_of(Retry(), exc) == seconds


@pytest.mark.parametrize(
    "exc",
    [
        with_attributes(retry_after=-5),
        with_attributes(retry_after=math.nan),
        with_attributes(retry_after=True),
        with_attributes(retry_after="soon"),
        with_attributes(retry_after=object()),
        with_attributes(retry_after="1" * 1000),
        with_attributes(response=None),
        with_attributes(response=SimpleNamespace(headers=None)),
        with_attributes(response=SimpleNamespace(headers={"retry-after": b"\xff"})),
        with_attributes(response=SimpleNamespace(headers=["retry-after"])),
        with_attributes(response=SimpleNamespace(headers={"retry-after": "Wed, 99 Foo 2015"})),
        with_attributes(
            response=SimpleNamespace(headers={"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"})
        ),
    ],
)
def test_nonsense_and_the_past_are_no_retry_after(exc: Exception) -> None:
    assert delay_of(Retry(), exc) == 0.0


def test_a_date_without_a_zone_is_universal_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        exc = with_attributes(retry_after=in_an_hour().replace("GMT", "-0000"))
        assert delay_of(Retry(), exc) == 3600
    finally:
        monkeypatch.undo()
        time.tzset()


class Trap(Exception):
    @property
    def retry_after(self) -> float:
        raise RuntimeError("a property of user code")


def test_an_error_whose_attributes_raise_is_still_judged() -> None:
    assert delay_of(Retry(jitter=False), Trap()) == 1.0


def test_a_shorter_retry_after_does_not_shorten_the_backoff() -> None:
    policy = Retry(initial_seconds=30, jitter=False)
    assert delay_of(policy, with_attributes(retry_after=7)) == 30


def test_an_enormous_number_of_tries_is_refused() -> None:
    with pytest.raises(KitaruUsageError, match="an enormous int"):
        as_policy(10**5000)
