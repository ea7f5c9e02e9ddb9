"""``kitaru.wait`` and ``kitaru.sleep``: what a flow says when it can only go on later.

Checks what is said and finds where it is said; the rest is the engine's.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kitaru._core.checks import check_text, check_timeout
from kitaru._core.metadata import checked_metadata
from kitaru._core.names import check_name, shortened
from kitaru._engine import schemas
from kitaru._engine.awaiting import Promised
from kitaru._engine.context import here
from kitaru._engine.effects import Steps
from kitaru._engine.loop import our_coroutines
from kitaru._engine.waiting import Asked, Terms, ask, flow_place, metadata_json
from kitaru._engine.waiting import sleep as sleep_steps
from kitaru.errors import KitaruUsageError

if TYPE_CHECKING:
    from kitaru._engine.run import Run

_MAX_SECONDS = 100 * 365.25 * 86_400
"""A century: what is meant to be longer is a mistake."""


def wait(
    *,
    schema: Any = None,
    name: str | None = None,
    question: str | None = None,
    timeout: float | None = None,
    metadata: dict[str, Any] | None = None,
    expires: float | timedelta | None = None,
    on_expire: Any = None,
) -> Any:
    """Ask for input, and park until somebody answers; in an async flow, ``await`` it.

    ``schema`` is the type of the answer (bool, str, int, a Literal, an Enum, a
    dataclass, a pydantic model, JSON types), and the answer is returned as one; without
    it the wait is a gate, which returns None or is aborted. Answered with
    ``kitaru executions input`` or ``KitaruClient``, from anywhere.

    ``timeout`` is how many seconds the execution stays in memory before it parks; the
    wait goes on. It ends unanswered only with ``expires``, in seconds or a timedelta:
    then it returns ``on_expire``, or raises it if that is an exception, or
    ``KitaruTimeoutError``.

    >>> import kitaru
    >>> @kitaru.flow
    ... def ask() -> bool:
    ...     return kitaru.wait(schema=bool, expires=0.01, on_expire=False)
    >>> ask.run().wait(timeout=60)
    False
    """
    place = flow_place(
        here.get(), "wait()", "Return from the checkpoint, and wait in the flow that called it"
    )
    terms = _terms(schema, name, question, timeout, metadata, expires, on_expire)
    asked = Asked(place, terms)
    run = place.run
    if asyncio._get_running_loop() is not None:
        return Promised("wait", _answer(asked, run))
    return asked.value(run.services.drive(ask(asked), run.env))


async def _answer(asked: Asked, run: Run) -> Any:
    return asked.value(await run.services.drive_async(ask(asked), run.env))


def sleep(seconds: float | timedelta) -> Awaitable[None]:
    """Sleep durably: until an instant that is recorded, whatever dies in between.

    Takes seconds or a timedelta; in an async flow, ``await`` it. An execution that sleeps
    for more than a second, and does nothing else, parks.

    >>> import kitaru
    >>> @kitaru.flow
    ... def patient() -> str:
    ...     kitaru.sleep(0.01)
    ...     return "rested"
    >>> patient.run().wait(timeout=60)
    'rested'
    """
    place = flow_place(
        here.get(), "sleep()", "Sleep in the flow that called it, or use time.sleep() here"
    )
    steps = sleep_steps(place, _seconds("sleep", seconds, at_least=0.0))
    run = place.run
    if asyncio._get_running_loop() is not None:
        return Promised("sleep", _slept(steps, run))
    run.services.drive(steps, run.env)
    return _NOTHING


async def _slept(steps: Steps[None], run: Run) -> None:
    await run.services.drive_async(steps, run.env)


class _Nothing:
    """What a sync flow gets: None, for those who await it all the same."""

    def __await__(self) -> Any:
        return iter(())

    def __repr__(self) -> str:
        return "None"


_NOTHING = _Nothing()


def _terms(
    schema: Any,
    name: object,
    question: object,
    timeout: object,
    metadata: object,
    expires: object,
    on_expire: Any,
) -> Terms:
    check_timeout(timeout)
    check_text("question", question)
    if metadata is not None:
        if not isinstance(metadata, dict):
            raise KitaruUsageError(
                f"wait(metadata={shortened(metadata)}): pass a dict of JSON values",
                code="option-invalid",
            )
        metadata = checked_metadata("wait", metadata)
    if on_expire is not None and expires is None:
        raise KitaruUsageError(
            "wait(on_expire=...) says what the wait comes to when it expires, and it never does: "
            "pass expires= too, or leave on_expire out",
            code="option-invalid",
        )
    return Terms(
        None if name is None else check_name("wait", name),
        question,  # type: ignore[arg-type]
        schema,
        schemas.schema_of(schema),
        metadata_json(metadata),
        float(timeout or 0.0),  # type: ignore[arg-type]
        None if expires is None else _seconds("wait(expires=...)", expires, at_least=0.0),
        on_expire,
    )


def _seconds(what: str, given: object, *, at_least: float) -> float:
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if (
        not number
        or not math.isfinite(seconds)  # type: ignore[arg-type]
        or not at_least <= seconds <= _MAX_SECONDS  # type: ignore[operator]
    ):
        raise KitaruUsageError(
            f"{what}: {shortened(given)} is no time to wait: pass seconds or a timedelta, from 0 "
            "to a hundred years",
            code="option-invalid",
        )
    return float(seconds)  # type: ignore[arg-type]


our_coroutines(__file__)
