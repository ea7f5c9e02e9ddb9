"""``runtime="process"``: the body of a call in a process of its own, which can be killed.

The owner starts a bare interpreter (``_process/guard.py``), sends it the call, passes on
what the body prints and logs, and records what it comes to. It waits on a thread, so a
body of an async flow is waited for by one of the pool's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from kitaru._core.limits import in_force
from kitaru._core.naming import import_folder, module_name
from kitaru._core.payload import Payload, seal
from kitaru._core.values import decode, decode_failure, encode
from kitaru._engine.call import hints_of
from kitaru._engine.context import here
from kitaru._engine.effects import CallBody, Encoded, Raised
from kitaru._engine.importable import find
from kitaru._engine.own_process import Child
from kitaru._engine.waking import waker
from kitaru._engine.wire import Order
from kitaru.errors import (
    KitaruError,
    KitaruRuntimeError,
    KitaruStateError,
    KitaruTimeoutError,
    KitaruUsageError,
    KitaruValueError,
)

if TYPE_CHECKING:
    from kitaru._engine.call import Call


class ProcessBody(CallBody):
    """Run the body of a call in a process of its own."""

    __slots__ = ("_child", "_is_cancelled")

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self._child: Child | None = None
        self._is_cancelled = False

    def perform(self) -> Any:
        call, run = self.call, self.call.run
        token = self._enter()
        try:
            place = here.get()
            assert place is not None
            order = order_of(call)
            self._child = child = Child(place)
            try:
                if self._is_cancelled:
                    raise asyncio.CancelledError
                child.start(order)
                with run.waking(lambda: child.ask_to_end(run.ended)):
                    outcome = child.supervise(call.spec.timeout_seconds)
            finally:
                child.end()
            return self._came_to(child, *outcome)
        finally:
            here.reset(token)

    def _came_to(self, child: Child, kind: str, codec: str = "", data: bytes = b"") -> Any:
        call, run = self.call, self.call.run
        if kind == "done":
            payload = seal(codec, data)
            return _unreadable(call, payload) or Encoded(payload)
        if kind == "failed":
            payload = seal(codec, data)
            return Raised(decode_failure(payload).exception, payload)
        if kind == "refused":
            raise _refusal(call, decode_failure(seal(codec, data)).exception)
        if kind == "late":
            return Raised(_late(call, child.seconds))
        if run.ended is not None:
            # It was asked to end, and did: it came to no outcome.
            self._abandon()
            raise run.ended
        return Raised(_died(call, child))

    async def perform_async(self) -> Any:
        finished, wake = waker()
        answer: list[Any] = []
        context = copy_context()

        def work() -> None:
            try:
                answer.append(context.run(self.perform))
            except BaseException as error:
                answer.append(_Left(error))
            wake()

        self.call.run.services.bodies.submit(work)
        try:
            await asyncio.shield(finished)
        except asyncio.CancelledError:
            self._is_cancelled = True
            if self._child is not None:
                self._child.kill()
            await finished
            if not answer or type(answer[0]) is not Encoded:
                self._abandon()
                raise
            # It has an outcome, which is to be recorded: be cancelled after that.
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            task.cancel()
        (found,) = answer
        if type(found) is _Left:
            raise found.error
        return found


class _Left:
    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def order_of(call: Call) -> Order:
    """What the process is told; raises what keeps it from being started."""
    spec, run = call.spec, call.run
    where = find(spec)
    arguments = encode([list(call.args), call.kwargs], what=f"checkpoint {spec.name}")
    main = sys.modules.get("__main__")
    folder = import_folder("__main__") if main is not None else None
    return Order(
        module=where.module,
        folder=where.folder,
        path=where.path,
        main=None if folder is None else (module_name("__main__"), folder),
        checkpoint=spec.id,
        argv=list(sys.argv),
        working_folder=os.getcwd(),
        arguments=(arguments.codec, arguments.data),
        pickled=spec.pickled,
        memory_bytes=spec.memory_bytes,
        limits=tuple(in_force()),
        levels=_levels(),
        code=None if call.code is None else (call.code.digest, run.services.root),
        exec_id=run.exec_id,
        flow_name=run.row.flow_name,
        flow_attempt=run.attempt,
        seed=run.row.seed,
        key_root=run.key_root,
        learnt=dict(run.learnt),
        identity=call.identity,
        attempt=call.attempt,
        key=call.key,
        kind=spec.kind,
    )


def _levels() -> dict[str, int]:
    loggers = tuple(logging.root.manager.loggerDict.items())
    levels = {name: each.level for name, each in loggers if isinstance(each, logging.Logger)}
    return {"": logging.root.level, **{name: level for name, level in levels.items() if level}}


# --- what is said of it ----------------------------------------------------------------------


def _unreadable(call: Call, payload: Payload) -> Raised | None:
    """What this process could not read back is no result: better told now than on the record."""
    if call.spec.pickled:
        return None
    try:
        decode(payload, what=call.spec.name, hints=hints_of(call), checked=True)
    except KitaruValueError as error:
        error.checkpoint = call.spec.name
        return Raised(error)
    return None


def _refusal(call: Call, error: BaseException) -> BaseException:
    if not isinstance(error, KitaruError):
        return error
    kinds = (KitaruUsageError, KitaruValueError, KitaruStateError)
    kind = type(error) if type(error) in kinds else None
    message = (
        f'checkpoint {call.spec.name!r} has runtime="process", and the process for it could not '
        f"begin: {error}"
    )
    return (kind or KitaruRuntimeError)(message, code=error.code)


def _late(call: Call, seconds: float) -> KitaruTimeoutError:
    return KitaruTimeoutError(
        f"checkpoint {call.spec.name!r} did not end within {call.spec.timeout_seconds:g} s, and "
        "its process was killed with all that it had started: give it more time (timeout=) or "
        "another try (retries=), or catch KitaruTimeoutError in the flow",
        exec_id=call.run.exec_id,
        timeout_seconds=call.spec.timeout_seconds,
        elapsed_seconds=seconds,
        code="checkpoint-timed-out",
    )


def _died(call: Call, child: Child) -> KitaruRuntimeError:
    status, memory = child.ended or (-1, 0)
    memory_bytes = memory if sys.platform == "darwin" else memory * 1024
    had = f"; it had up to {memory_bytes / 1e6:,.0f} MB" if memory else ""
    if status >= 0 and os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        how = f"was killed by signal {number}"
        with suppress(ValueError):
            how = f"was killed by {signal.Signals(number).name}"
        hint = _HINTS.get(number, "see what it printed last: kitaru executions logs")
    elif status >= 0:
        how = f"ended with exit code {os.WEXITSTATUS(status)}"
        hint = "something in it called os._exit() or ended the interpreter"
    else:
        how, hint = "did not begin, or is gone", "look at the machine's log"
    return KitaruRuntimeError(
        f"the process of checkpoint {call.spec.name!r} {how} before the body came to a result"
        f"{had}: {hint}",
        code="process-died",
    )


_HINTS: dict[int, str] = {
    signal.SIGKILL: "perhaps by the kernel, because memory ran out, or by a person",
    signal.SIGSEGV: "C code in it failed; its traceback is in kitaru executions logs",
    signal.SIGABRT: "C code in it gave up; its traceback is in kitaru executions logs",
}
