"""What a flow is told, checked: by ``@flow(...)`` for its spec, by ``options()`` for its runs.

Knows nothing of executions: what makes no sense is refused here, before there is any.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from kitaru._core.binding import Binder
from kitaru._core.checks import seconds_of
from kitaru._core.names import check_name, shortened
from kitaru._core.naming import import_folder, module_name
from kitaru._core.queueing import MAX_PRIORITY
from kitaru._core.retry import check_retries
from kitaru._core.schedules import Schedule, check_schedule
from kitaru._engine.execution import FlowSpec
from kitaru._engine.queueing import NOTHING_SAID, Queueing
from kitaru.decoration import (
    check_bool,
    check_function,
    check_names,
    claim_name,
    function_id,
    is_coroutine_function,
    plain_function,
    refuse_generator,
    refuse_unstorable_return,
)
from kitaru.errors import KitaruUsageError
from kitaru.setting_values import Cache, check_cache

OPTIONS = ("name", "cache", "retries", "strict", "timeout", "retention", "aliases", "schedule",
           "timezone", "missed")  # fmt: skip

RUN_OPTIONS = (
    *("key", "tags", "timeout", "cache", "retries"),
    *("queue", "priority", "limit_key", "delay", "connection"),
)

_MAX_TAGS = 32


class RunOptions:
    """What ``flow.options()`` and ``run()`` say; None means not said."""

    __slots__ = ("cache", "connection", "key", "queueing", "retries", "tags", "timeout_seconds")

    def __init__(
        self,
        *,
        key: str | None = None,
        tags: tuple[str, ...] = (),
        cache: Cache | None = None,
        retries: int | None = None,
        timeout_seconds: float | None = None,
        queueing: Queueing = NOTHING_SAID,
        connection: object = None,
    ) -> None:
        self.key = key
        self.tags = tags
        self.cache: Cache | None = cache
        self.retries = retries
        self.timeout_seconds = timeout_seconds
        self.queueing = queueing
        self.connection = connection

    def with_(self, cache: Any, retries: Any) -> RunOptions:
        """These, with what a call of ``run()`` or ``enqueue()`` itself says."""
        if cache is None and retries is None:
            return self
        return self.also(cache=cache, retries=retries)

    def also(
        self,
        *,
        key: str | None = None,
        tags: Sequence[str] = (),
        cache: Cache | None = None,
        retries: int | None = None,
        timeout: float | timedelta | None = None,
        queue: str | None = None,
        priority: int | None = None,
        limit_key: str | None = None,
        delay: float | timedelta | None = None,
        connection: object = None,
    ) -> RunOptions:
        """These, with what is said here on top: checked, and each tag added."""
        queueing = Queueing(
            None if queue is None else check_name("queue", queue),
            _checked_priority(priority),
            None if limit_key is None else check_name("limit_key", limit_key),
            _checked_delay(delay),
        )
        return RunOptions(
            key=self.key if key is None else check_name("key", key),
            tags=(*self.tags, *_checked_tags(tags)),
            cache=self.cache if cache is None else check_cache(cache, "cache"),
            retries=self.retries if retries is None else check_retries(retries, "retries"),
            timeout_seconds=seconds_of("timeout", timeout) or self.timeout_seconds,
            queueing=queueing.over(self.queueing),
            connection=self.connection if connection is None else connection,
        )


def _checked_tags(tags: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(tags, (list, tuple)) or len(tags) > _MAX_TAGS:
        raise KitaruUsageError(
            f"tags={shortened(tags)}: pass a list of at most {_MAX_TAGS} names",
            code="option-invalid",
        )
    return tuple(check_name("tag", tag) for tag in tags)


def _checked_priority(priority: object) -> int | None:
    if priority is None:
        return None
    if type(priority) is not int or not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
        raise KitaruUsageError(
            f"priority={shortened(priority)}: pass a whole number from -{MAX_PRIORITY:,} to "
            f"{MAX_PRIORITY:,}; higher ones are claimed first",
            code="option-invalid",
        )
    return priority


def _checked_delay(delay: object) -> float | None:
    is_zero = type(delay) in (int, float) and delay == 0
    return 0.0 if is_zero or delay == timedelta(0) else seconds_of("delay", delay)


def _checked_retention(retention: float | timedelta | None) -> int | None:
    seconds = seconds_of("retention", retention)
    return None if seconds is None else math.ceil(seconds)


def _checked_schedule(
    id: str, binder: Binder, schedule: object, timezone: object, missed: object
) -> Schedule | None:
    """When the flow starts by itself; None: only when somebody starts it."""
    if schedule is None:
        for option, value in (("timezone", timezone), ("missed", missed)):
            if value not in (None, "last"):
                raise KitaruUsageError(
                    f"@flow({option}={shortened(value)}) says nothing without schedule=: "
                    'write the line too, as in schedule="0 7 * * *"',
                    code="schedule-invalid",
                )
        return None
    found = check_schedule(schedule, timezone, missed)
    try:
        binder.bind((), {})
    except KitaruUsageError as error:
        raise KitaruUsageError(
            f"@flow(schedule={shortened(schedule)}): flow {id!r} starts by itself, without "
            f"arguments, but {error}; give every parameter a default",
            code="schedule-invalid",
        ) from None
    return found


def flow_spec(
    func: Callable[..., Any],
    *,
    name: str | None = None,
    cache: bool | None = None,
    retries: int | None = None,
    strict: bool = False,
    timeout: float | timedelta | None = None,
    retention: float | timedelta | None = None,
    aliases: Sequence[str] = (),
    schedule: str | None = None,
    timezone: str | None = None,
    missed: str = "last",
) -> FlowSpec:
    """The flow that a function is with these options."""
    check_function("@flow", func)
    plain = plain_function(func)
    id = check_name("flow", name) if name is not None else function_id(func, plain)
    refuse_generator("flow", id, plain)
    refuse_unstorable_return("flow", id, plain)
    binder = Binder(func)
    for reserved in ("cache", "retries"):
        if reserved in binder.names:
            raise KitaruUsageError(
                f"flow {id!r} has a parameter named {reserved!r}, which run() takes for itself: "
                "rename the parameter",
                code="parameter-name-reserved",
            )
    fires = _checked_schedule(id, binder, schedule, timezone, missed)
    if name is not None:
        claim_name("flow", id, plain)
    module = str(getattr(plain, "__module__", None) or "")
    return FlowSpec(
        id=id,
        name=id if name is not None else check_name("function", getattr(plain, "__name__", id)),
        fn=func,
        is_async=is_coroutine_function(plain),
        binder=binder,
        module=module_name(module) if module else None,
        folder=import_folder(module) if module else None,
        cache=check_bool("cache", cache),
        retries=None if retries is None else check_retries(retries, "retries"),
        strict=bool(check_bool("strict", strict)),
        keep_seconds=_checked_retention(retention),
        aliases=check_names("flow", "aliases", aliases),
        timeout_seconds=seconds_of("timeout", timeout),
        schedule=fires,
    )
