"""``@checkpoint``: functions whose outcomes are recorded.

The public face of a checkpoint: options and their checks, calling, submitting,
mapping. What a call means is decided in ``_engine``.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
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

from kitaru._core.binding import Binder
from kitaru._core.checks import bytes_of, seconds_of
from kitaru._core.fanout import Arguments, combinations, in_step, unmapped
from kitaru._core.names import check_name, shortened
from kitaru._engine.calling import Options as CallOptions
from kitaru._engine.calling import call_async, call_sync, submit_call, where
from kitaru._engine.frames import fold, folding
from kitaru._engine.futures import FutureBase
from kitaru.decoration import (
    check_bool,
    check_callable,
    check_function,
    check_names,
    check_options,
    check_strings,
    claim_name,
    function_id,
    is_coroutine_function,
    plain_function,
    refuse_generator,
    refuse_unstorable_return,
)
from kitaru.errors import KitaruError, KitaruFeatureNotAvailableError, KitaruUsageError

if TYPE_CHECKING:
    from kitaru._engine.call import CheckpointSpec
    from kitaru.model import Retry

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
# Covariant, so that a checkpoint whose coroutine type is more exact (pyright
# infers CoroutineType) matches the overloads that unwrap a coroutine.
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
T = TypeVar("T")

_RUNTIMES = ("inline", "process", "isolated", "ray")


class CheckpointFuture(FutureBase, Generic[R_co]):
    """The outcome-to-be of a submitted call.

    ``result()`` waits for it (and runs the call in the waiting thread if it
    has not begun); ``await future`` does the same on an event loop. A failure
    that nobody looks at fails the flow.
    """

    __slots__ = ()

    def done(self) -> bool:
        """Whether the call has its outcome."""
        return self._submitted.done

    def result(self, timeout: float | None = None) -> R_co:
        """The recorded result, or the recorded exception raised.

        ``timeout`` in seconds; after it ``KitaruTimeoutError``, and the call goes on.
        """
        try:
            return cast(R_co, self._submitted.result(timeout))
        except Exception as error:
            fold(error)
            raise

    load = result

    @property
    def was_dropped(self) -> bool:
        """Whether it was never started, because something beside it had failed."""
        return self._submitted.dropped_because is not None

    def __await__(self) -> Generator[Any, None, R_co]:
        yield from self._submitted.wait_async().__await__()
        return cast(R_co, self._submitted.outcome())


class FutureList(list[CheckpointFuture[R]]):
    """Futures in input order; ``results()`` waits for all of them.

    With ``on_error="collect"`` a failed item's exception stands in its place;
    else the first failure is raised.
    """

    def __init__(self, futures: Iterable[CheckpointFuture[R]], *, collect: bool = False) -> None:
        super().__init__(futures)
        self._collect = collect

    def results(self, timeout: float | None = None) -> list[R]:
        """All results in input order. ``timeout`` in seconds, for each of them."""
        if not self._collect:
            return self._all_or_first_failure(timeout)
        found: list[Any] = []
        for future in self:
            try:
                found.append(future.result(timeout))
            except Exception as error:
                found.append(error)
        return found

    def _all_or_first_failure(self, timeout: float | None) -> list[R]:
        """What is raised counts as given to the flow; failures beside it do not: see ``fail``."""
        failed: CheckpointFuture[R] | None = None
        for future in self:
            if future._submitted.failure(timeout) is None:
                continue
            # What was never started says so, but the failure that caused it counts.
            if failed is None or (failed.was_dropped and not future.was_dropped):
                failed = future
        if failed is not None:
            failed.result()
        return [future.result() for future in self]

    def __await__(self) -> Generator[Any, None, list[R]]:
        for future in self:
            yield from future._submitted.wait_async().__await__()
        return self.results()


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
        return _decorated(func, options)
    except KitaruError as error:
        fold(error)
        raise


def _decorated(func: Any, options: dict[str, Any]) -> Any:
    if func is not None and (options or not callable(func)):
        raise KitaruUsageError(
            f"@checkpoint was given {shortened(func)}: use @checkpoint, or "
            "@checkpoint(retries=2, ...) with options by name",
            code="decorator-without-function",
        )
    if func is not None:
        return make_checkpoint(func)
    check_options("@checkpoint", options, _OPTIONS)
    return folding(lambda function: make_checkpoint(function, **options))


def make_checkpoint(
    func: Callable[..., Any],
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
    codec: str | None = None,
    resources: Mapping[str, Any] | None = None,
    effect: str | None = None,
    verify: Callable[..., Any] | None = None,
    transaction: bool = False,
    unique: bool = True,
) -> Checkpoint[Any, Any]:
    from kitaru._core.retry import as_policy
    from kitaru._engine.call import CheckpointSpec
    from kitaru._engine.loaded import remember

    _refuse_twice(func)
    check_function("@checkpoint", func)
    plain = plain_function(func)
    id = check_name("checkpoint", name) if name is not None else function_id(func, plain)
    where_it_runs = _checked_runtime(id, plain, runtime, resources)
    refuse_generator("checkpoint", id, plain)
    if unique and codec is None:
        refuse_unstorable_return("checkpoint", id, plain)
    binder = Binder(func)
    if name is not None and unique:
        claim_name("checkpoint", id, plain)
    spec = CheckpointSpec(
        id=id,
        name=id if name is not None else check_name("function", getattr(plain, "__name__", id)),
        fn=func,
        is_async=is_coroutine_function(plain),
        binder=binder,
        aliases=check_names("checkpoint", "aliases", aliases),
        kind=None if type is None else check_name("checkpoint type", type),
        policy=as_policy(retries),
        cache=check_bool("cache", cache),
        cache_ttl_seconds=_checked_ttl(cache_ttl),
        key=check_callable("key", key),
        ignore=_checked_ignore(id, binder, ignore),
        version=None if version is None else check_name("checkpoint version", version),
        pickled=_checked_codec(id, codec) == "pickle",
        once=_checked_effect(id, effect),
        verify=_checked_verify(id, plain, effect, verify),
        transactional=_checked_transaction(id, transaction, runtime, effect),
        timeout_seconds=seconds_of("timeout", timeout),
        **where_it_runs,
    )
    if unique and (name is not None or spec.aliases):
        remember(spec)
    return Checkpoint(func, spec, CallOptions())


def _refuse_twice(func: object) -> None:
    if isinstance(func, (Checkpoint, BoundCheckpoint)):
        raise KitaruUsageError(
            f"{func!r} is a checkpoint already: decorate the plain function", code="decorated-twice"
        )


_OPTIONS = (
    *("name", "retries", "type", "runtime", "cache", "cache_ttl", "key", "ignore", "version"),
    *("aliases", "timeout", "codec", "effect", "verify", "transaction", "resources"),
)


def _checked_runtime(id: str, plain: Any, runtime: object, resources: object) -> dict[str, Any]:
    """Where bodies run, as options of the spec; ``isolated`` is a process here."""
    if not isinstance(runtime, str) or runtime.lower() not in _RUNTIMES:
        raise KitaruUsageError(
            f"runtime={shortened(runtime)}: pass one of {', '.join(map(repr, _RUNTIMES))}",
            code="option-invalid",
        )
    if runtime.lower() == "ray":
        raise KitaruFeatureNotAvailableError(
            'runtime="ray" comes with a later release; use runtime="process", which runs a '
            "checkpoint in a process of its own on this machine",
            code="not-yet-available",
        )
    is_inline = runtime.lower() == "inline"
    memory_bytes = _checked_resources("inline" if is_inline else "process", resources)
    if is_inline:
        return {}
    from kitaru._engine.importable import refuse_local

    defined_at = (str(getattr(plain, "__module__", "")), str(getattr(plain, "__qualname__", "")))
    refuse_local(id, *defined_at)
    return {"runtime": "process", "memory_bytes": memory_bytes, "defined_at": defined_at}


def _checked_resources(runtime: str, resources: object) -> int | None:
    """The memory, in bytes, that the process of a body may have."""
    if resources is None:
        return None
    if not isinstance(resources, Mapping) or not all(isinstance(each, str) for each in resources):
        raise KitaruUsageError(
            f'resources={shortened(resources)}: name each, as in {{"memory": "512MiB"}}',
            code="option-invalid",
        )
    others = [name for name in resources if name != "memory"]
    if others:
        raise KitaruFeatureNotAvailableError(
            f"resources={{{others[0]!r}: ...}} needs an engine that places checkpoints on "
            'machines, which comes with a later release; leave it out, or pass "memory" alone',
            code="not-yet-available",
        )
    if runtime == "inline":
        raise KitaruUsageError(
            'resources={"memory": ...}: add runtime="process", because the memory of one body '
            "inside a process cannot be told from that of others",
            code="option-invalid",
        )
    if not sys.platform.startswith("linux"):
        raise KitaruFeatureNotAvailableError(
            'resources={"memory": ...} needs Linux, whose kernel enforces it; leave it out here',
            code="platform-unsupported",
        )
    return bytes_of('resources["memory"]', resources["memory"]) if resources else None


def _checked_codec(id: str, codec: str | None) -> str:
    if codec is None:
        return "json"
    if isinstance(codec, str) and codec in ("json", "pickle"):
        return codec
    hint = 'pass "json" or "pickle"'
    if isinstance(codec, str):
        import difflib

        near = difflib.get_close_matches(codec.lower(), ("json", "pickle"), 1)
        hint = f"did you mean {near[0]!r}?" if near else hint
    raise KitaruUsageError(
        f"checkpoint {id!r}: codec={shortened(codec)} is none; {hint} (a codec of your own is "
        "found by the class of the value: see kitaru.register_codec)",
        code="option-invalid",
    )


def _checked_effect(id: str, effect: object) -> bool:
    if effect is None or effect == "once":
        return effect is not None
    raise KitaruUsageError(
        f'checkpoint {id!r}: effect={shortened(effect)}: pass "once", or leave it out',
        code="option-invalid",
    )


def _checked_verify(
    id: str, plain: Callable[..., Any], effect: object, verify: Callable[..., Any] | None
) -> Callable[..., Any] | None:
    if verify is None:
        return None
    check_callable("verify", verify)
    if effect is None:
        raise KitaruUsageError(
            f'checkpoint {id!r}: verify= tells whether an effect took place: add effect="once", '
            "or leave verify out",
            code="option-invalid",
        )
    if is_coroutine_function(plain_function(verify)) and not is_coroutine_function(plain):
        raise KitaruUsageError(
            f"checkpoint {id!r} is a plain function and its verify= is async: make both plain, or "
            "the checkpoint async",
            code="option-invalid",
        )
    return verify


def _checked_transaction(id: str, transaction: bool, runtime: str, effect: object) -> bool:
    if not check_bool("transaction", transaction):
        return False
    if runtime.lower() != "inline":
        raise KitaruUsageError(
            f"checkpoint {id!r}: transaction=True lends its body a connection of this process: "
            f"leave out runtime={runtime!r}",
            code="option-invalid",
        )
    if effect is not None:
        raise KitaruUsageError(
            f"checkpoint {id!r}: with transaction=True the body's rows and its outcome are "
            'committed together, so that nothing is left to ask about: leave out effect="once". '
            "What is outside the database goes into a checkpoint of its own",
            code="option-invalid",
        )
    return True


def _checked_ttl(value: float | timedelta | None) -> float | None:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds is None:
        return None
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, (int, float))
        or not 0 <= seconds < 1e11
    ):
        raise KitaruUsageError(
            f"cache_ttl={shortened(value)}: pass seconds (0 or more) or a timedelta",
            code="option-invalid",
        )
    return float(seconds)


def _checked_ignore(id: str, binder: Binder, ignore: Sequence[str]) -> frozenset[str]:
    names = check_strings("ignore", ignore)
    known = {name.lstrip("*") for name in binder.names} if names else set()
    for name in names:
        if name.lstrip("*") not in known and binder.rest_keys is None:
            raise KitaruUsageError(
                f"checkpoint {id!r}: ignore={name!r} names no parameter: name one that it has, "
                f"{', '.join(sorted(known)) or 'none'}",
                code="option-invalid",
            )
    return frozenset(names)


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
    made = make_checkpoint(fn, name=name, unique=False)
    return cast(R, made(*args, **kwargs))
