"""``@flow``: functions whose lives are recorded."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Never,
    NoReturn,
    ParamSpec,
    Self,
    TypeVar,
    overload,
)

from kitaru import app as _app
from kitaru import settings as _settings
from kitaru._engine.execution import FlowSpec
from kitaru._engine.frames import fold
from kitaru._engine.within import Within, on_a_thread, within_async
from kitaru._engine.within import within as within_
from kitaru.decoration import check_options, decorated
from kitaru.errors import (
    KitaruError,
    KitaruNotFoundError,
    KitaruStateError,
    KitaruUsageError,
)
from kitaru.flow_options import OPTIONS, RUN_OPTIONS, RunOptions, flow_spec
from kitaru.handles import Asked, FlowHandle
from kitaru.lookup import find_row, of_project
from kitaru.setting_values import Cache

if TYPE_CHECKING:
    from kitaru._engine.replaying import Replay

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")


class Flow(Generic[P, R]):
    """A function whose lives are recorded; made by :func:`flow`.

    ``func`` is the plain function, for unit tests. Calling a flow directly
    raises ``KitaruUsageError``.
    """

    def __init__(self, func: Callable[P, Any], spec: FlowSpec, options: RunOptions) -> None:
        import functools

        self.func = func
        self.spec = spec
        self._options = options
        self.__kitaru_id__ = spec.id
        functools.update_wrapper(self, func, updated=())

    def __repr__(self) -> str:
        return f"<flow {self.spec.id}>"

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: Flow[Concatenate[S, Q], T], instance: S, owner: type[S] | None = None
    ) -> BoundFlow[Q, T]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None or isinstance(self.func, staticmethod):
            return self
        return BoundFlow(self, instance)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> NoReturn:
        error = KitaruUsageError(
            f"flow {self.spec.name!r} is not called directly: write {self.spec.name}.run(...)"
            f".wait(), or {self.spec.name}.func(...) for the plain function",
            code="flow-called-directly",
        )
        try:
            raise error
        except KitaruUsageError:
            fold(error)
            raise

    @overload
    def run(self, /, *args: P.args, **kwargs: P.kwargs) -> FlowHandle[R]: ...
    @overload
    def run(
        self, /, *args: Any, cache: Cache | None, retries: int | None = None, **kwargs: Any
    ) -> FlowHandle[R]: ...
    @overload
    def run(self, /, *args: Any, retries: int | None, **kwargs: Any) -> FlowHandle[R]: ...
    def run(self, /, *args: Any, **kwargs: Any) -> FlowHandle[R]:
        """Record a new execution and return its handle at once; it runs in the background.

        Takes the flow's own arguments, and as keywords ``cache=`` and
        ``retries=`` of this run. Arguments that misfit the annotations or
        cannot be stored are refused before anything is recorded.
        """
        try:
            return self._run(args, kwargs)
        except KitaruError as error:
            fold(error)
            raise

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> FlowHandle[R]:
        options = self._options.with_(kwargs.pop("cache", None), kwargs.pop("retries", None))
        return self._start(args, kwargs, options)

    def _start(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: RunOptions,
        replay: Replay | None = None,
        *,
        enqueue: bool = False,
        within: Within | None = None,
    ) -> FlowHandle[R]:
        from kitaru._engine.starting import start_execution

        app = _app.current()
        app.host.go_on()
        if options.connection is not None and within is None:
            within = within_(app.store, options.connection, self.spec.name, enqueue=enqueue)
        enqueue = enqueue or _settings.current().enqueues
        row, completion, child = start_execution(
            app.services,
            app.runner,
            self.spec,
            args,
            kwargs,
            key=options.key,
            tags=options.tags,
            cache=options.cache,
            retries=options.retries,
            replay=replay,
            timeout_seconds=options.timeout_seconds,
            queueing=options.queueing,
            enqueue=enqueue,
            within=within,
        )
        return FlowHandle(
            row.exec_id,
            row.id,
            self.spec,
            # What is queued is for workers to run, also if one dies.
            adopts=not enqueue and (options.key is not None or child is not None),
            completion=completion,
            asked=None if child is None else Asked.of(child, row),
            within=within,
        )

    def options(
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
        connection: Any = None,
        **unknown: Never,
    ) -> Flow[P, R]:
        """This flow with other options for the runs that follow.

        ``key`` makes a run idempotent: the same key and inputs are the same
        execution, resumed if it was interrupted. ``tags`` are labels to list by. ``timeout``
        (seconds or timedelta) is how long an execution may take from its start, waiting and
        downtime included: after it, it fails with the origin ``timeout``.

        For :meth:`enqueue`: ``queue`` is where it stands (``"default"``), those with a higher
        ``priority`` (0) are claimed first, ``limit_key`` names a limit that it shares with others
        beside that of its queue (``kitaru.configure(limits={...})``), and it is not begun before
        ``delay`` (seconds or timedelta) has passed. With ``connection`` (psycopg's, or a
        ``Connection`` or ``Session`` of SQLAlchemy, to the database that the store is in) it is
        recorded in the transaction of that connection: it is there when and only when you commit.
        """
        check_options("flow.options()", unknown, RUN_OPTIONS)
        options = self._options.also(
            key=key,
            tags=tags,
            cache=cache,
            retries=retries,
            timeout=timeout,
            queue=queue,
            priority=priority,
            limit_key=limit_key,
            delay=delay,
            connection=connection,
        )
        return Flow(self.func, self.spec, options)

    def handle(self, exec_id: str) -> FlowHandle[R]:
        """A typed handle on an execution of this flow."""
        app = _app.current()
        row = app.store.find_execution(exec_id)
        if row is None:
            raise KitaruNotFoundError(
                f"no execution {exec_id!r} in this store: see `kitaru executions list`",
                code="execution-not-found",
            )
        of_project(row, app.project)
        if row.flow_id not in (self.spec.id, *self.spec.aliases):
            raise KitaruStateError(
                f"execution {exec_id} is one of flow {row.flow_id!r}, not of "
                f"{self.spec.id!r}: ask that flow, or client.executions.handle(...)",
                code="execution-of-another-flow",
            )
        return FlowHandle(exec_id, row.id, self.spec)

    @overload
    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> FlowHandle[R]: ...
    @overload
    def enqueue(
        self, /, *args: Any, cache: Cache | None, retries: int | None = None, **kwargs: Any
    ) -> FlowHandle[R]: ...
    @overload
    def enqueue(self, /, *args: Any, retries: int | None, **kwargs: Any) -> FlowHandle[R]: ...
    def enqueue(self, /, *args: Any, **kwargs: Any) -> FlowHandle[R]:
        """Record a new execution for a worker to run, and return its handle at once.

        The handle follows it from here, whoever runs it. Takes what :meth:`run` takes, and
        refuses the same. With a key that is there already, the handle is on that execution.

        >>> import kitaru
        >>> @kitaru.flow
        ... def report(year: int) -> str:
        ...     return f"the year {year}"
        >>> handle = report.options(queue="slow", priority=5, delay=60).enqueue(2025)
        >>> handle.status.value
        'pending'
        """
        try:
            options = self._options.with_(kwargs.pop("cache", None), kwargs.pop("retries", None))
            return self._start(args, kwargs, options, enqueue=True)
        except KitaruError as error:
            fold(error)
            raise

    @overload
    async def enqueue_async(self, /, *args: P.args, **kwargs: P.kwargs) -> FlowHandle[R]: ...
    @overload
    async def enqueue_async(
        self, /, *args: Any, cache: Cache | None, retries: int | None = None, **kwargs: Any
    ) -> FlowHandle[R]: ...
    @overload
    async def enqueue_async(
        self, /, *args: Any, retries: int | None, **kwargs: Any
    ) -> FlowHandle[R]: ...
    async def enqueue_async(self, /, *args: Any, **kwargs: Any) -> FlowHandle[R]:
        """What :meth:`enqueue` does, without making the event loop wait.

        With ``options(connection=)`` it takes the connections that are for ``await``: psycopg's
        ``AsyncConnection``, SQLAlchemy's ``AsyncConnection`` and ``AsyncSession``.

        >>> import asyncio, kitaru
        >>> @kitaru.flow
        ... def report(year: int) -> str:
        ...     return f"the year {year}"
        >>> async def serve() -> str:
        ...     handle = await report.enqueue_async(2025)
        ...     return handle.status.value
        >>> asyncio.run(serve())
        'pending'
        """
        try:
            options = self._options.with_(kwargs.pop("cache", None), kwargs.pop("retries", None))
            within = None
            if options.connection is not None:
                store = (await on_a_thread(_app.current)).store
                within = within_async(store, options.connection, self.spec.name)
            return await on_a_thread(
                lambda: self._start(args, kwargs, options, enqueue=True, within=within)
            )
        except KitaruError as error:
            fold(error)
            raise

    def replay(
        self,
        /,
        exec_id: str,
        from_: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        **inputs: Any,
    ) -> FlowHandle[R]:
        """Make a new execution from a finished one, and run it here; the old one stays as it is.

        It takes over the old one's outcomes. ``from_`` (a checkpoint's name,
        ``name#2`` or a call id) names the call from which it runs anew;
        ``overrides`` gives outcomes (``{"checkpoint.draft": "…"}``), ``inputs``
        other inputs of the flow. What depends on those runs, and nothing else
        does. Raises ``KitaruStateError`` that lists the candidates where a name
        is unknown or ambiguous.

        >>> import kitaru
        >>> @kitaru.checkpoint(cache=False)
        ... def draft(topic: str) -> str:
        ...     return f"about {topic}"
        >>> @kitaru.flow
        ... def write(topic: str) -> str:
        ...     return draft(topic).upper()
        >>> first = write.run("rivers")
        >>> first.wait()
        'ABOUT RIVERS'
        >>> write.replay(first.exec_id, overrides={"checkpoint.draft": "mine"}).wait()
        'MINE'
        """
        try:
            return self._replay(exec_id, from_, overrides, inputs)
        except KitaruError as error:
            fold(error)
            raise

    def _replay(
        self,
        exec_id: str,
        from_: str | None,
        overrides: Mapping[str, Any] | None,
        inputs: dict[str, Any],
    ) -> FlowHandle[R]:
        from kitaru._engine.replaying import prepare_replay

        app = _app.current()
        row = find_row(app.store, app.project, exec_id)
        replay = prepare_replay(
            app.services, self.spec, row, from_=from_, overrides=overrides, inputs=inputs
        )
        return self._start(replay.args, replay.kwargs, self._options, replay)


class BoundFlow(Generic[P, R]):
    """A flow reached through an instance, which is its first input and recorded as such.

    So the instance must be something that can be stored: a dataclass, a
    pydantic model; else ``run()`` raises ``KitaruValueError`` that says so.
    """

    def __init__(self, flow: Flow[Any, R], instance: object) -> None:
        self._flow = flow
        self.__self__ = instance
        self.func: Any = types.MethodType(flow.func, instance)
        self.spec = flow.spec
        self.__kitaru_id__ = flow.__kitaru_id__

    def __repr__(self) -> str:
        return f"<bound flow {self.__kitaru_id__}>"

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> NoReturn:
        self._flow(self.__self__, *args, **kwargs)

    def run(self, /, *args: P.args, **kwargs: P.kwargs) -> FlowHandle[R]:
        return self._flow.run(self.__self__, *args, **kwargs)

    def enqueue(self, /, *args: P.args, **kwargs: P.kwargs) -> FlowHandle[R]:
        return self._flow.enqueue(self.__self__, *args, **kwargs)

    async def enqueue_async(self, /, *args: P.args, **kwargs: P.kwargs) -> FlowHandle[R]:
        return await self._flow.enqueue_async(self.__self__, *args, **kwargs)

    def options(self, **options: Any) -> BoundFlow[P, R]:
        return BoundFlow(self._flow.options(**options), self.__self__)

    def handle(self, exec_id: str) -> FlowHandle[R]:
        return self._flow.handle(exec_id)

    def replay(
        self,
        /,
        exec_id: str,
        from_: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        **inputs: Any,
    ) -> FlowHandle[R]:
        inputs = {self.spec.binder.names[0]: self.__self__, **inputs}
        return self._flow.replay(exec_id, from_, overrides, **inputs)


@overload
def flow(func: Callable[P, Coroutine[Any, Any, T]], /) -> Flow[P, T]: ...
@overload
def flow(func: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(
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
) -> _FlowDecorator: ...
def flow(func: Any = None, /, **options: Any) -> Any:
    """Make a function durable: its executions are recorded, and go on where they stopped.

    ``cache`` and ``retries`` are defaults for its runs; ``strict=True`` stops
    an execution that, resumed, makes another call than the recorded one
    (``KitaruDivergenceError``); ``timeout`` (seconds or timedelta) is how long an execution may
    take from its start, waiting and downtime included; after ``retention`` a finished one may be
    removed by ``kitaru gc``; ``aliases`` are former names. With ``schedule`` (a cron line,
    in ``timezone``, UTC if none is said) workers start it by themselves, without arguments;
    ``missed`` says what becomes of fire times at which none was there: ``skip``, the ``last``
    one, or ``all`` of them. Raises
    ``KitaruUsageError`` at decoration for options that make no sense.

    >>> @flow
    ... def add(a: int, b: int) -> int:
    ...     return a + b
    >>> add.run(2, b=3).wait()
    5
    """
    try:
        return decorated("@flow", func, options, OPTIONS, _make)
    except KitaruError as error:
        fold(error)
        raise


def _make(func: Callable[..., Any], **options: Any) -> Flow[Any, Any]:
    if isinstance(func, Flow):
        raise KitaruUsageError(
            f"{func!r} is a flow already: decorate the plain function", code="decorated-twice"
        )
    made: Flow[Any, Any] = Flow(func, flow_spec(func, **options), RunOptions())
    _app.register_flow(made, made.spec)
    return made


class _FlowDecorator:
    """What ``@flow(...)`` with options is to a type checker."""

    @overload
    def __call__(self, func: Callable[P, Coroutine[Any, Any, T]], /) -> Flow[P, T]: ...
    @overload
    def __call__(self, func: Callable[P, R], /) -> Flow[P, R]: ...
    def __call__(self, func: Any, /) -> Any:
        return _make(func)
