"""The third paragraph: what may be said as an option, and what must not.

Each entry is a call that says one option wrongly. ``WRONG`` are refused with a
``KitaruUsageError`` (or, where the option comes later, ``KitaruFeatureNotAvailableError``) before
anything exists; ``RIGHT`` are odd and fine.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import kitaru
from kitaru import KitaruClient, Retry, checkpoint, flow

Say = Callable[[], Any]

NAN, INF = float("nan"), float("inf")

NOT_COUNTS: tuple[Any, ...] = (
    -1,
    10**9,
    10**30,
    True,
    1.5,
    1e300,
    NAN,
    INF,
    "3",
    b"3",
    [],
    object(),
    3 + 0j,
)
NOT_SECONDS: tuple[Any, ...] = (-1, True, 1e300, NAN, INF, "3", b"3", [], object(), 3 + 0j)
NOT_NAMES: tuple[Any, ...] = (3, True, b"x", "", " ", "\n", "x" * 201, "\x1b[31m", [], object())
NOT_BOOLS: tuple[Any, ...] = (0, 1, "yes", "true", [], object(), 1.0)
NOT_CACHE: tuple[Any, ...] = (0, 1, "yes", "Refresh", [], object(), NAN)
NOT_FUNCTIONS: tuple[Any, ...] = (3, "x", [], object())


def body(x: int = 1, *, at: int = 2) -> int:
    return x


@flow
def plain(x: int = 1) -> int:
    return x


@checkpoint(cache=False)
def item(x: int) -> int:
    return x


def _flow(**options: Any) -> Say:
    return lambda: flow(**options)(body)


def _checkpoint(**options: Any) -> Say:
    return lambda: checkpoint(**options)(body)


def _options(**options: Any) -> Say:
    return lambda: plain.options(**options).run()


def _run(**options: Any) -> Say:
    return lambda: plain.run(**options)


def _retry(**options: Any) -> Say:
    return lambda: Retry(**{"max_attempts": 2, **options})


def _configure(**options: Any) -> Say:
    return lambda: kitaru.configure(**options)


def _list(**options: Any) -> Say:
    return lambda: KitaruClient().executions.list(**options)


def _wait(timeout: Any) -> Say:
    return lambda: plain.run().wait(timeout=timeout)


def _each(make: Callable[..., Say], option: str, values: tuple[Any, ...]) -> dict[str, Say]:
    where = make.__name__.strip("_")
    return {f"{where}({option}={_shown(value)})": make(**{option: value}) for value in values}


def _shown(value: Any) -> str:
    if type(value) is object:
        return "object()"
    # Without addresses, which differ between the workers that collect the tests.
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))[:24]


WRONG: dict[str, Say] = {
    **_each(_flow, "retries", NOT_COUNTS),
    **_each(_flow, "cache", NOT_CACHE),
    **_each(_flow, "strict", NOT_BOOLS),
    **_each(_flow, "name", NOT_NAMES),
    **_each(_flow, "aliases", (3, "x", ["\n"], [3], object())),
    **_each(_flow, "timeout", (*NOT_SECONDS, 0, timedelta(-1))),
    **_each(_flow, "schedule", (*NOT_NAMES, "x", "0 25 * * *", "@daily", "* * * *", "0 0 30 2 *")),
    **_each(_flow, "timezone", (*NOT_NAMES, "Mars/Olympus", "UTC")),
    **_each(_flow, "missed", (*NOT_NAMES, "never", "all")),
    **_each(_flow, "retires", (1,)),
    **_each(_run, "retries", NOT_COUNTS),
    **_each(_run, "cache", NOT_CACHE),
    **_each(_options, "retries", NOT_COUNTS),
    **_each(_options, "cache", NOT_CACHE),
    **_each(_options, "key", NOT_NAMES),
    **_each(_options, "tags", (3, "x", ["\n"], [3], ["x"] * 100, object())),
    **_each(_options, "timeout", (*NOT_SECONDS, 0, timedelta(-1))),
    **_each(_options, "queue", ("x", 3)),
    **_each(_options, "delay", (1, "x")),
    **_each(_options, "taggs", (1,)),
    **_each(_checkpoint, "retries", NOT_COUNTS),
    **_each(_checkpoint, "cache", (*NOT_CACHE, "refresh")),
    **_each(_checkpoint, "cache_ttl", (*NOT_SECONDS, timedelta(-1))),
    **_each(_checkpoint, "name", NOT_NAMES),
    **_each(_checkpoint, "type", (3, "\n", "x" * 201, "", object())),
    **_each(_checkpoint, "runtime", ("gpu", 3, "", None, "ray", object())),
    **_each(_checkpoint, "key", NOT_FUNCTIONS),
    **_each(_checkpoint, "ignore", (3, "at", ["nobody"], [3], object())),
    **_each(_checkpoint, "version", (3, "", "\n", "x" * 201, object())),
    **_each(_checkpoint, "aliases", (3, "x", ["\n"], [3])),
    **_each(_checkpoint, "timeout", (*NOT_SECONDS, 0, timedelta(-1))),
    **_each(_checkpoint, "effect", ("twice", 3, "")),
    **_each(_checkpoint, "transaction", (1, "yes")),
    **_each(_checkpoint, "verify", (3, body)),
    **_each(_checkpoint, "codec", ("yaml", 3, object())),
    **_each(_checkpoint, "retires", (1,)),
    **_each(_retry, "max_attempts", (*NOT_COUNTS, 0)),
    **_each(_retry, "initial_seconds", NOT_SECONDS),
    **_each(_retry, "factor", (-1, 0, True, NAN, INF, "3", object())),
    **_each(_retry, "max_seconds", NOT_SECONDS),
    **_each(_retry, "retry_on", (3, "x", [3], ["ValueError"], int, object())),
    **_each(_retry, "never_on", (3, "x", [3], int, object())),
    **_each(_configure, "cache", NOT_CACHE),
    **_each(_configure, "retries", NOT_COUNTS),
    **_each(_configure, "project", NOT_NAMES),
    **_each(_configure, "store", (3, "", " ", "a\0b", b"x", object())),
    **_each(_configure, "max_concurrency", (*NOT_COUNTS, 0)),
    **_each(_configure, "logs", ("yes", 1, "refresh", object())),
    **_each(_configure, "max_transactions", (*NOT_COUNTS, 0, 1001)),
    **_each(_configure, "max_log_bytes", (*NOT_COUNTS, 0, 1, 1 << 60)),
    **_each(_configure, "max_log_folder_bytes", (*NOT_COUNTS, 0, 1, 1 << 60)),
    **_each(
        _checkpoint, "resources", (3, "1GiB", {"memory": "1GiB"}, {"gpu": 1}, {1: 2}, object())
    ),
    **_each(_configure, "at_exit", ("maybe", 3, True, object())),
    **_each(_configure, "at_exit_seconds", NOT_SECONDS),
    **_each(_configure, "lease_seconds", (*NOT_SECONDS, 0, 1.9, 3601)),
    **_each(_configure, "poll_seconds", (*NOT_SECONDS, 0, 61)),
    **_each(_configure, "sotre", ("x",)),
    **_each(_list, "limit", (*NOT_COUNTS, 0)),
    **_each(_list, "status", ("done", 3, "", object())),
    **_each(_list, "flow", (3, "\ud800", object())),
    **_each(_list, "key", (3, "\ud800", object())),
    **_each(_list, "tags", ("x", 3, [3], object())),
    **_each(_list, "before", (3, datetime(2020, 1, 1), object())),
    **_each(_list, "since", (3, "2020", datetime(2020, 1, 1), object())),
    **_each(_wait, "timeout", NOT_SECONDS),
    "flow(3)": lambda: flow(3),  # type: ignore[call-overload]
    "flow(a class)": lambda: flow(Retry),
    "checkpoint('name')": lambda: checkpoint("name"),  # type: ignore[call-overload]
    "get(3)": lambda: KitaruClient().executions.get(3),  # type: ignore[arg-type]
}

RIGHT: dict[str, Say] = {
    "checkpoint(cache_ttl=0)": _checkpoint(cache_ttl=0),
    "flow(retries=0)": _flow(retries=0),
    "flow(timeout=0.5)": _flow(timeout=0.5),
    "options(timeout=timedelta)": _options(timeout=timedelta(days=1)),
    "checkpoint(runtime='INLINE')": _checkpoint(runtime="INLINE"),
    "checkpoint(runtime='Process')": _checkpoint(runtime="Process"),
    "checkpoint(timeout=0.5)": _checkpoint(timeout=0.5),
    "checkpoint(timeout=timedelta)": _checkpoint(timeout=timedelta(days=1)),
    "checkpoint(cache_ttl=timedelta)": _checkpoint(cache_ttl=timedelta(days=1)),
    "checkpoint(ignore=['at'])": _checkpoint(ignore=["at"]),
    "options(tags=[])": _options(tags=[]),
    "options(cache='refresh')": _options(cache="refresh"),
    "retry(initial_seconds=0)": _retry(initial_seconds=0),
}
