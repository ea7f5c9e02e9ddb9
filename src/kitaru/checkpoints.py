"""``@checkpoint``: functions whose outcomes are recorded.

The public face of a checkpoint: calling, submitting, mapping. What its options mean is
checked in ``checkpoint_options.py``; what a call means is decided in ``_engine``.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    Never,
    ParamSpec,
    Self,
    TypeVar,
    cast,
    overload,
)

from kitaru._core.fanout import Arguments, combinations, in_step, unmapped
from kitaru._core.names import shortened
from kitaru._engine.calling import Options as CallOptions
from kitaru._engine.calling import call_async, call_sync, submit_call, where
from kitaru._engine.frames import fold
from kitaru.checkpoint_options import OPTIONS, checkpoint_spec
from kitaru.decoration import check_options, decorated
from kitaru.errors import KitaruError, KitaruUsageError
from kitaru.futures import CheckpointFuture, FutureList

if TYPE_CHECKING:
    from kitaru._engine.call import CheckpointSpec
    from kitaru.retrying import Retry

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
# Covariant, so that a checkpoint whose coroutine type is more exact (pyright
# infers CoroutineType) matches the overloads that unwrap a coroutine.
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
T = TypeVar("T")


class Checkpoint(Generic[P, R_co]):
    """A function whose outcomes are recorded; made by :func:`checkpoint`.

    Called in a flow, it returns the value. ``func`` is the plain function, for
    unit tests. Outside a flow a call raises ``KitaruContextError``.
    """

    def __init__(self, func: Callable[P, R_co], spec: CheckpointSpec, options: CallOptions) -> None:
        self.func = func
        self.spec = spec
        self._options = options
        self._reserved_id = "id" not in spec.binder.names and spec.binder.rest_keys is None
        self.__kitaru_id__ = spec.id
        functools.update_wrapper(self, func, updated=())

    def __repr__(self) -> str:
        return f"<checkpoint {self.spec.id}>"

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: Checkpoint[Concatenate[S, Q], T], instance: S, owner: type[S] | None = None
    ) -> BoundCheckpoint[Q, T]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None or isinstance(self.func, staticmethod):
            return self
        return BoundCheckpoint(self, instance)

    # --- calling ---------------------------------------------------------------------

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return the recorded outcome of this call, or run it and record what it returns."""
        options = self._options
        if kwargs and "id" in kwargs and self._reserved_id:
            options = options.named(kwargs.pop("id"))
        # Assigned, not cast: a cast is a call, and this path is counted in microseconds.
        call: Any = call_async if self.spec.is_async else call_sync
        try:
            outcome: R_co = call(self.spec, args, kwargs, options)
        except Exception as error:
            fold(error)
            raise
        return outcome

    def options(
        self, *, id: str | None = None, retries: int | Retry | None = None, **unknown: Never
    ) -> Checkpoint[P, R_co]:
        """This checkpoint with other options for the call that follows.

        ``id`` names the call: it is then found by that name instead of its
        inputs (unique in its parent). ``retries`` overrides the decorator's.

        >>> from kitaru import flow
        >>> @checkpoint
        ... def charge(cents: int) -> str:
        ...     return f"charged {cents}"
        >>> @flow
        ... def order(number: int) -> str:
        ...     return charge.options(id=f"charge-{number}", retries=2)(500)
        >>> order.run(42).wait()
        'charged 500'
        """
        check_options("checkpoint.options()", unknown, ("id", "retries"))
        options = self._options
        if id is not None:
            options = options.named(id)
        if retries is not None:
            from kitaru._core.retry import as_policy

            options = options._replace(policy=as_policy(retries), policy_said=True)
        return Checkpoint(self.func, self.spec, options)

    @overload
    def submit(
        self: Checkpoint[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> CheckpointFuture[T]: ...
    @overload
    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> CheckpointFuture[R_co]: ...
    def submit(self, /, *args: Any, **kwargs: Any) -> CheckpointFuture[Any]:
        """Begin the call beside the caller; it takes its identity now.

        >>> from kitaru import flow
        >>> @checkpoint
        ... def fetch(page: int) -> str:
        ...     return f"page {page}"
        >>> @flow
        ... def book() -> str:
        ...     first, second = fetch.submit(1), fetch.submit(2)
        ...     return first.result() + ", " + second.result()
        >>> book.run().wait()
        'page 1, page 2'
        """
        options = self._options
        if kwargs and "id" in kwargs and self._reserved_id:
            options = options.named(kwargs.pop("id"))
        return CheckpointFuture(submit_call(self.spec, args, kwargs, options))

    # --- many calls --------------------------------------------------------------------

    @overload
    def map(
        self: Checkpoint[..., Coroutine[Any, Any, T]],
        /,
        *iterables: Any,
        concurrency: int | None = None,
        on_error: Literal["stop", "finish", "collect"] = "stop",
        **keywords: Any,
    ) -> FutureList[T]: ...
    @overload
    def map(
        self,
        /,
        *iterables: Any,
        concurrency: int | None = None,
        on_error: Literal["stop", "finish", "collect"] = "stop",
        **keywords: Any,
    ) -> FutureList[R_co]: ...
    def map(
        self,
        /,
        *iterables: Any,
        concurrency: int | None = None,
        on_error: Literal["stop", "finish", "collect"] = "stop",
        **keywords: Any,
    ) -> FutureList[Any]:
        """Submit a call for each item, in step; at most ``concurrency`` run at once.

        Lists, tuples, ranges, generators and lists of futures are iterated
        (unequal lengths: ``KitaruUsageError``); str, bytes, dict and scalars
        are repeated, and so is ``kitaru.unmapped(xs)``. ``on_error="stop"``
        starts nothing more after a failure, ``"finish"`` runs all and then
        raises, ``"collect"`` puts exceptions among the results.

        >>> from kitaru import flow
        >>> @checkpoint
        ... def square(number: int) -> int:
        ...     return number * number
        >>> @flow
        ... def squares(numbers: list[int]) -> list[int]:
        ...     return square.map(numbers, concurrency=8).results()
        >>> squares.run([1, 2, 3]).wait()
        [1, 4, 9]
        """
        self._refuse_taken(concurrency, on_error)
        return self._map_items(in_step(self.spec.name, iterables, keywords), concurrency, on_error)

    @overload
    def product(
        self: Checkpoint[..., Coroutine[Any, Any, T]],
        /,
        *iterables: Any,
        concurrency: int | None = None,
        on_error: Literal["stop", "finish", "collect"] = "stop",
        **keywords: Any,
    ) -> FutureList[T]: ...
    @overload
    def product(
        self,
        /,
        *iterables: Any,
        concurrency: int | None = None,
        on_error: Literal["stop", "finish", "collect"] = "stop",
        **keywords: Any,
    ) -> FutureList[R_co]: ...
    def product(
        self,
        /,
        *iterables: Any,
        concurrency: int | None = None,
        on_error: Literal["stop", "finish", "collect"] = "stop",
        **keywords: Any,
    ) -> FutureList[Any]:
        """Like :meth:`map` over every combination; the last iterable varies fastest.

        >>> from kitaru import flow
        >>> @checkpoint
        ... def cell(row: str, column: int) -> str:
        ...     return f"{row}{column}"
        >>> @flow
        ... def sheet() -> list[str]:
        ...     return cell.product(["a", "b"], [1, 2]).results()
        >>> sheet.run().wait()
        ['a1', 'a2', 'b1', 'b2']
        """
        self._refuse_taken(concurrency, on_error)
        return self._map_items(combinations(iterables, keywords), concurrency, on_error)

    def _refuse_taken(self, concurrency: int | None, on_error: str) -> None:
        """A parameter of the function's that has one of our names could never be passed."""
        given = {"concurrency": concurrency is not None, "on_error": on_error != "stop"}
        for name in self.spec.binder.names:
            if given.get(name):
                raise KitaruUsageError(
                    f"{self.spec.name}.map({name}=...) could mean map's own {name} or the "
                    f"parameter {name!r} of the checkpoint: rename the parameter, or pass it by "
                    "position",
                    code="parameter-name-reserved",
                )

    def _map_items(
        self,
        items: list[Arguments],
        concurrency: int | None,
        on_error: str,
    ) -> FutureList[Any]:
        from kitaru._engine.mapping import map_calls

        if on_error not in ("stop", "finish", "collect"):
            raise KitaruUsageError(
                f'on_error={shortened(on_error)}: pass "stop", "finish" or "collect"',
                code="option-invalid",
            )
        if concurrency is not None and (type(concurrency) is not int or concurrency < 1):
            raise KitaruUsageError(
                f"concurrency={shortened(concurrency)}: pass a whole number, 1 or more",
                code="option-invalid",
            )
        where(self.spec)
        submitted = map_calls(self.spec, items, self._options, concurrency, on_error)
        return FutureList(map(CheckpointFuture, submitted), collect=on_error == "collect")


class BoundCheckpoint(Generic[P, R_co]):
    """A checkpoint reached through an instance: the instance is its first argument."""

    def __init__(self, checkpoint: Checkpoint[Any, R_co], instance: object) -> None:
        self._checkpoint = checkpoint
        self.__self__ = instance
        self.func: Any = types.MethodType(checkpoint.func, instance)
        self.__kitaru_id__ = checkpoint.__kitaru_id__

    def __repr__(self) -> str:
        return f"<bound checkpoint {self.__kitaru_id__}>"

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self._checkpoint(self.__self__, *args, **kwargs)

    def options(
        self, *, id: str | None = None, retries: int | Retry | None = None
    ) -> BoundCheckpoint[P, R_co]:
        return BoundCheckpoint(self._checkpoint.options(id=id, retries=retries), self.__self__)

    @overload
    def submit(
        self: BoundCheckpoint[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> CheckpointFuture[T]: ...
    @overload
    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> CheckpointFuture[R_co]: ...
    def submit(self, /, *args: Any, **kwargs: Any) -> CheckpointFuture[Any]:
        return self._checkpoint.submit(self.__self__, *args, **kwargs)

    @overload
    def map(
        self: BoundCheckpoint[..., Coroutine[Any, Any, T]], /, *iterables: Any, **options: Any
    ) -> FutureList[T]: ...
    @overload
    def map(self, /, *iterables: Any, **options: Any) -> FutureList[R_co]: ...
    def map(self, /, *iterables: Any, **options: Any) -> FutureList[Any]:
        return self._checkpoint.map(unmapped(self.__self__), *iterables, **options)

    @overload
    def product(
        self: BoundCheckpoint[..., Coroutine[Any, Any, T]], /, *iterables: Any, **options: Any
    ) -> FutureList[T]: ...
    @overload
    def product(self, /, *iterables: Any, **options: Any) -> FutureList[R_co]: ...
    def product(self, /, *iterables: Any, **options: Any) -> FutureList[Any]:
        return self._checkpoint.product(unmapped(self.__self__), *iterables, **options)


# --- the decorator ------------------------------------------------------------------------


@overload
def checkpoint(func: Callable[P, R], /) -> Checkpoint[P, R]: ...
@overload
def checkpoint(
    *,
    name: str | None = None,
    retries: int | Retry = 0,
    type: str | None = None,
    runtime: str = "inline",
    cache: bool | None = None,
    cache_ttl: float | timedelta | None = None,
    key: Callable[..., Any] | None = None,
    ignore: Sequence[str] = (),
    version: str | None = None,
    aliases: Sequence[str] = (),
    timeout: float | timedelta | None = None,
    codec: Literal["json", "pickle"] | None = None,
    effect: Literal["once"] | None = None,
    verify: Callable[..., Any] | None = None,
    transaction: bool = False,
    resources: Any = None,
) -> Callable[[Callable[P, R]], Checkpoint[P, R]]: ...
def checkpoint(func: Any = None, /, **options: Any) -> Any:
    """Make a function's outcomes recorded: called again in the same place, it is not run again.

    Works on sync and ``async def`` functions, methods, closures and
    ``functools.partial``. ``retries`` counts extra tries or is a
    :class:`kitaru.Retry`; ``cache=False`` never reuses another execution's
    outcome; ``cache_ttl`` is how old (seconds or timedelta) a reused one may
    be; ``key`` computes what identifies a call from its arguments; ``ignore``
    leaves arguments out; ``version`` replaces the fingerprint of the code;
    ``runtime="process"`` runs each body in a process of its own, which is killed at its
    ``timeout`` and has the memory that ``resources={"memory": "1GiB"}`` says;
    ``timeout`` is how long (seconds or timedelta) one try may take: after it the call
    fails with ``KitaruTimeoutError``; an async body is cancelled, the thread of another is
    left behind; ``aliases`` are former names; ``type`` is a label; ``codec="pickle"`` pickles
    results that have no other encoding, which only the flow itself reads;
    ``transaction=True`` records the outcome in the transaction in which the body writes
    its own rows (see :func:`kitaru.connection`). Raises ``KitaruUsageError`` at decoration
    for options that make no sense.

    >>> @checkpoint(retries=2)
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> double.func(4)
    8
    """
    try:
        return decorated("@checkpoint", func, options, OPTIONS, _make)
    except KitaruError as error:
        fold(error)
        raise


def _make(func: Callable[..., Any], **options: Any) -> Checkpoint[Any, Any]:
    if isinstance(func, (Checkpoint, BoundCheckpoint)):
        raise KitaruUsageError(
            f"{func!r} is a checkpoint already: decorate the plain function", code="decorated-twice"
        )
    return Checkpoint(func, checkpoint_spec(func, **options), CallOptions())


def step(name: str, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call any callable as a checkpoint, undecorated.

    ``name`` identifies it; the rest is as for a decorated function. An
    ``async def`` function gives an awaitable.

    >>> from kitaru import flow
    >>> @flow
    ... def longest(words: list[str]) -> str:
    ...     return step("longest", max, words, key=len)
    >>> longest.run(["sea", "river"]).wait()
    'river'
    """
    made = _make(fn, name=name, unique=False)
    return cast(R, made(*args, **kwargs))
