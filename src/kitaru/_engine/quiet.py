"""Whether tasks only wait for tasks that stand in something durable.

Reads what asyncio keeps about waiting: which future a task awaits, the children
of a ``gather``, and from the callbacks of tasks who is told of their end
(``TaskGroup``, ``asyncio.wait``, ``as_completed``, ``shield``). What it does not know
counts as something else, so the answer is no. Called on the loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

Task = asyncio.Task[Any]
_Future = asyncio.Future[Any]


class Following(asyncio.Future[None]):
    """What a task awaits that waits for a submitted call: the call is looked at by itself."""


def only_stand(tasks: Iterable[Task], standing: set[Task]) -> bool:
    """Whether every one of ``tasks`` is in ``standing``, or waits for nothing else than those."""
    alive = {task for task in tasks if not task.done()}
    looked = _Looked(alive | standing, standing)
    try:
        return all(map(looked.stands, alive)) and not _have_timeouts(alive | standing)
    except RecursionError:
        return False


class _Looked:
    """One look at all tasks of an execution, which do nothing meanwhile."""

    def __init__(self, tasks: set[Task], standing: set[Task]) -> None:
        self._known: dict[_Future, bool] = dict.fromkeys(standing, True)
        self._sources: dict[_Future, list[_Future] | None] = {}
        """A future -> by whose ends it comes about; None: also by something else."""
        for task in tasks:
            for future, sources in _told_by(task, tasks):
                self._sources[future] = sources

    def stands(self, future: _Future) -> bool:
        known = self._known.get(future)
        if known is None:
            # While it is looked at: whoever waits for itself in a circle stays hot.
            self._known[future] = False
            known = self._known[future] = self._find_out(future)
        return known

    def _find_out(self, future: _Future) -> bool:
        if future.done():
            return False  # whoever waits for it goes on now
        if isinstance(future, asyncio.Task):
            awaited = getattr(future, "_fut_waiter", None)
            return awaited is not None and self.stands(awaited)
        if type(future) is Following:
            return True
        children = getattr(future, "_children", None)
        sources = list(children) if children is not None else self._sources.get(future)
        if sources is None:
            return False
        left = [source for source in sources if not source.done()]
        return bool(left) and all(map(self.stands, left))


def _told_by(task: Task, tasks: set[Task]) -> Iterator[tuple[_Future, list[_Future] | None]]:
    """The futures that come about by this task's end, with all that they come about by."""
    for callback, _ in getattr(task, "_callbacks", None) or ():
        if not str(getattr(callback, "__module__", "")).startswith("asyncio"):
            continue
        owner = getattr(callback, "__self__", None)
        if isinstance(owner, asyncio.TaskGroup):
            future = getattr(owner, "_on_completed_fut", None)
            if future is not None:
                yield future, list(getattr(owner, "_tasks", ()))
        elif hasattr(owner, "_handle_completion"):  # as_completed, from Python 3.13 on
            timed = getattr(owner, "_timeout_handle", None) is not None
            yield from _getters(
                getattr(owner, "_done", None), getattr(owner, "_todo", ()), timed=timed
            )
        else:
            yield from _told_by_closure(task, callback, tasks)


def _told_by_closure(
    task: Task, callback: Any, tasks: set[Task]
) -> Iterator[tuple[_Future, list[_Future] | None]]:
    code = getattr(callback, "__code__", None)
    cells = getattr(callback, "__closure__", None)
    if code is None or cells is None:
        return
    held = {}
    for name, cell in zip(code.co_freevars, cells, strict=True):
        try:
            held[name] = cell.cell_contents
        except ValueError:
            continue  # not filled yet
    timed = held.get("timeout_handle") is not None
    if "waiter" in held and "counter" in held:  # asyncio.wait
        waiter = held["waiter"]
        # Those of one asyncio.wait share its callback; what else it waits for is not ours.
        told: list[_Future] = [each for each in tasks if _has_callback(each, callback)]
        whole = not timed and len(told) == held["counter"]
        yield waiter, told if whole else None
    elif "todo" in held and "done" in held:  # as_completed, before Python 3.13
        yield from _getters(held["done"], held["todo"], timed=timed)
    elif "outer" in held and callback.__qualname__.startswith("shield."):
        yield held["outer"], [task]


def _has_callback(task: Task, callback: Any) -> bool:
    return any(known is callback for known, _ in getattr(task, "_callbacks", None) or ())


def _getters(
    queue: Any, todo: Iterable[_Future], *, timed: bool
) -> Iterator[tuple[_Future, list[_Future] | None]]:
    for getter in getattr(queue, "_getters", ()):
        yield getter, None if timed else list(todo)


def _have_timeouts(tasks: set[Task]) -> bool:
    """Whether a clock of this process (``asyncio.timeout``) runs for any of them."""
    for task in tasks:
        scheduled = getattr(task.get_loop(), "_scheduled", ())
        break
    else:
        return False
    for handle in scheduled:
        owner = getattr(getattr(handle, "_callback", None), "__self__", None)
        if owner is None or handle.cancelled():
            continue
        for name in ("_task", "_host_task"):  # asyncio's, and that of anyio's scopes
            if getattr(owner, name, None) in tasks:
                return True
    return False
