"""From a call in user code to a procedure under a driver.

Finds where the caller stands, resolves futures among the arguments, refuses
what cannot be told apart or would block, and drives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from kitaru import settings
from kitaru._core.names import check_name
from kitaru._engine.call import Call, CheckpointSpec
from kitaru._engine.context import Place, here
from kitaru._engine.effects import SLOW_ON_LOOP_SECONDS
from kitaru._engine.futures import Deferred, FutureBase, Submitted, call_on_loop, start
from kitaru._engine.once import steps_of
from kitaru._engine.transacted import refuse_inside, refuse_without
from kitaru.errors import KitaruContextError

if TYPE_CHECKING:
    from kitaru._engine.run import Run
    from kitaru.retrying import Retry


class Options(NamedTuple):
    """What ``Checkpoint.options()`` says about the next call."""

    id: str | None = None
    policy: Retry | None = None
    policy_said: bool = False

    def named(self, id: object) -> Options:
        return self._replace(id=check_name("call id", id))


def where(spec: CheckpointSpec) -> Place:
    """Where the caller stands, or ``KitaruContextError``."""
    place = here.get()
    if place is None:
        raise KitaruContextError(
            f"checkpoint {spec.name!r} was called outside a flow, or in a thread that does not "
            "carry the flow's context: call it inside a function decorated with @flow; in a "
            "thread, use .submit() or asyncio.to_thread(); in a unit test, call "
            f"{spec.name}.func(...)",
            code="checkpoint-outside-flow",
        )
    place.check()
    if place.attempt.is_closed:
        refuse_inside(f"checkpoint {spec.name!r}", place.attempt)
        if place.run.is_far:
            raise KitaruContextError(
                f"checkpoint {spec.name!r} was called in the body of a checkpoint with "
                'runtime="process", where no other is run: call it in the flow and hand over its '
                f"result, or call the plain function {spec.name}.func(...)",
                code="inside-own-process",
            )
        raise KitaruContextError(
            f"checkpoint {spec.name!r} was called by something that the "
            f"{'flow' if place.call is None else repr(place.call.spec.name)} left running: that "
            "attempt is over, and what is called in it could not belong to it any more. Await "
            "tasks and threads before returning",
            code="attempt-is-over",
        )
    return place


def new_call(
    spec: CheckpointSpec,
    place: Place,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: Options,
) -> Call:
    if spec.transactional:
        refuse_without(place.run, spec)
    policy = options.policy if options.policy_said else spec.policy
    return Call(place.run, spec, place, args, kwargs, policy, _cache(place.run, spec), options.id)


def _cache(run: Run, spec: CheckpointSpec) -> tuple[bool | str, str]:
    found = run.cache_choices.get(spec.cache)
    if found is None:
        found = run.cache_choices[spec.cache] = settings.resolve_cache(
            checkpoint=spec.cache,
            run=run.spec.get("cache_of_run"),
            default=settings.Choice(*run.spec.get("cache", (True, "built-in"))),
        )
        if run.past is not None and found[0] is True and "cache_of_run" not in run.spec:
            # Whoever replays wants it run: only what the replay itself says turns reuse on.
            found = run.cache_choices[spec.cache] = settings.Choice("refresh", "replay()")
    return found


# --- the three ways of calling -----------------------------------------------------------


def call_sync(
    spec: CheckpointSpec, args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
) -> Any:
    place = where(spec)
    run = place.run
    on_loop = asyncio._get_running_loop() is not None
    if on_loop:
        _check_loop(spec, run)
        if spec.once:
            raise KitaruContextError(
                f"checkpoint {spec.name!r} has {spec.said_once} and may have to wait for "
                f"{'its database' if spec.transactional else 'a person'}, which would hold the "
                f"event loop: write `await {spec.name}.submit(...)`, or make it `async def`",
                code="event-loop-would-block",
            )
    if _has_futures(args, kwargs):
        _refuse_unfinished(spec, args, kwargs, on_loop)
        args, kwargs = _resolved(args, kwargs)
    if on_loop and (place.branch, spec.id) in run.deferred:
        raise KitaruContextError(
            f"checkpoint {spec.name!r} is called while an earlier call of it still waits for a "
            "future among its arguments: await that one first",
            code="future-not-finished",
        )
    call = new_call(spec, place, args, kwargs, options)
    if not on_loop:
        return run.services.drive(steps_of(call), run.env).open(call)
    began = run.env.monotonic()
    try:
        return run.services.drive(steps_of(call), run.env).open(call)
    finally:
        if run.env.monotonic() - began > SLOW_ON_LOOP_SECONDS:
            run.services.say(
                f"checkpoint {spec.name!r} is a plain function and held the event loop for "
                f"{run.env.monotonic() - began:.2f} s: other branches stood still meanwhile. "
                f"Write `await {spec.name}.submit(...)` to run it in a thread",
                once=("slow", spec.id),
            )


def call_async(
    spec: CheckpointSpec, args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
) -> Coroutine[Any, Any, Any]:
    """A coroutine for the call, which has taken its identity already."""
    place = where(spec)
    run = place.run
    if asyncio._get_running_loop() is None:
        raise KitaruContextError(
            f"checkpoint {spec.name!r} is async and was called from synchronous code: write "
            f"{spec.name}.submit(...).result(), or make the caller `async def`",
            code="async-checkpoint-in-sync-code",
        )
    _check_loop(spec, run)
    if (place.branch, spec.id) in run.deferred or not _finished(args, kwargs):
        coroutine = _call_in_turn(_take_turn(spec, place, args, kwargs, options))
    else:
        if _has_futures(args, kwargs):
            args, kwargs = _resolved(args, kwargs)
        coroutine = call_on_loop(new_call(spec, place, args, kwargs, options))
    coroutine.__qualname__ = spec.name  # type: ignore[attr-defined]
    return coroutine


def submit_call(
    spec: CheckpointSpec, args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
) -> Submitted:
    submitted = prepare(spec, args, kwargs, options)
    call = submitted.call
    if call.run.events.active:
        call.run.events.submitted(call.run, spec, call.parent, 1)
    start(submitted)
    return submitted


def prepare(
    spec: CheckpointSpec, args: tuple[Any, ...], kwargs: dict[str, Any], options: Options
) -> Submitted:
    """A submitted call that has its identity and waits to be started."""
    place = where(spec)
    on_loop = asyncio._get_running_loop() is not None
    if on_loop:
        _check_loop(spec, place.run)
        if (place.branch, spec.id) in place.run.deferred or not _finished(args, kwargs):
            turn = _take_turn(spec, place, args, kwargs, options)
            return Deferred(place, spec, turn)
    if _has_futures(args, kwargs):
        args, kwargs = _resolved(args, kwargs)
    return Submitted(new_call(spec, place, args, kwargs, options))


def _check_loop(spec: CheckpointSpec, run: Run) -> None:
    if not run.services.loop.is_current():
        raise KitaruContextError(
            f"checkpoint {spec.name!r} was called inside an event loop of your own "
            "(asyncio.run), where concurrent branches cannot be told apart: make the flow "
            "`async def`, Kitaru then runs it on its own loop",
            code="own-event-loop",
        )


# --- futures among the arguments ------------------------------------------------------------
#
# Found by type(...): isinstance would ask each argument for its `__class__`, code of the user's.


def _futures(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Submitted]:
    found = []
    for value in (*args, *kwargs.values()):
        if issubclass(type(value), FutureBase):
            found.append(value._submitted)
        elif issubclass(type(value), (list, tuple)):
            found += [item._submitted for item in value if issubclass(type(item), FutureBase)]
    return found


def _has_futures(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    for value in args:
        if issubclass(type(value), (FutureBase, list, tuple)):
            return bool(_futures(args, kwargs))
    for value in kwargs.values():
        if issubclass(type(value), (FutureBase, list, tuple)):
            return bool(_futures(args, kwargs))
    return False


def _finished(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return not _has_futures(args, kwargs) or all(one.done for one in _futures(args, kwargs))


def _refuse_unfinished(
    spec: CheckpointSpec, args: tuple[Any, ...], kwargs: dict[str, Any], on_loop: bool
) -> None:
    if on_loop and not _finished(args, kwargs):
        raise KitaruContextError(
            f"checkpoint {spec.name!r} was given a future that has not finished, and waiting for "
            f"it would block the event loop: pass `await future`",
            code="future-not-finished",
        )


def _resolved(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Futures replaced by their values: a call counts by what it is given, not by when."""
    return tuple(map(_value, args)), {name: _value(value) for name, value in kwargs.items()}


def _value(value: Any) -> Any:
    if issubclass(type(value), FutureBase):
        return value._submitted.result()
    if issubclass(type(value), (list, tuple)) and any(
        issubclass(type(item), FutureBase) for item in value
    ):
        items = [_value(item) if issubclass(type(item), FutureBase) else item for item in value]
        return tuple(items) if issubclass(type(value), tuple) else items
    return value


async def _call_in_turn(turn: asyncio.Future[Call]) -> Any:
    return await call_on_loop(await asyncio.shield(turn))


def _take_turn(
    spec: CheckpointSpec,
    place: Place,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: Options,
) -> asyncio.Future[Call]:
    """A call whose arguments are not known yet.

    Equal calls are numbered in the order of calling, so calls of one checkpoint
    in one branch take their identities one after another, whichever futures
    finish first.
    """
    run = place.run
    key = (place.branch, spec.id)
    previous = run.deferred.get(key)
    turn: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
    run.deferred[key] = turn

    async def take_identity() -> None:
        try:
            for future in _futures(args, kwargs):
                await future.wait_async()
            if previous is not None:
                await asyncio.wait([previous])
            known_args, known_kwargs = _resolved(args, kwargs)
            turn.set_result(new_call(spec, place, known_args, known_kwargs, options))
        except BaseException as error:
            turn.set_exception(error)
            turn.exception()
        finally:
            if run.deferred.get(key) is turn:
                del run.deferred[key]

    run.services.loop.spawn(take_identity)
    return turn
