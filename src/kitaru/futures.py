"""The outcomes-to-be of submitted calls: one, and a list of them.

What is waited for, and in which thread, is decided in ``_engine/futures.py``.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, Generic, TypeVar, cast

from kitaru._engine.frames import fold
from kitaru._engine.futures import FutureBase

R = TypeVar("R")
# Covariant, as that of the checkpoint which gave it out.
R_co = TypeVar("R_co", covariant=True)


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
