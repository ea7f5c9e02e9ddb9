"""Where a piece of code stands: in which execution, attempt and branch.

One context variable carries it. asyncio copies it into tasks, ``to_thread``
into its thread, and our own pools into theirs; a thread that carries no
context is outside every flow.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from kitaru._core.branch import Branch

if TYPE_CHECKING:
    from kitaru._engine.call import Call
    from kitaru._engine.logs import Printed
    from kitaru._engine.run import Run


class Attempt:
    """One try of a call's body, or of the flow (``call`` is None): what is called in it is its own.

    Its number stays what it was while the call goes on to the next: what an
    earlier attempt left running must not be taken for the later one's.
    """

    __slots__ = (
        "bodies",
        "call",
        "fresh",
        "futures",
        "identity",
        "is_closed",
        "is_over",
        "names",
        "number",
        "root",
        "tasks",
    )

    def __init__(self, call: Call | None) -> None:
        self.call = call
        self.identity = None if call is None else call.identity
        # The calls of the flow itself stay the same calls in a retry of the execution.
        self.number = 0 if call is None else call.attempt
        self.fresh = call is not None and (call.fresh or call.attempt > 1)
        """Below an attempt after the first: never filled by reuse."""
        self.root = Branch()
        self.futures: list[Any] = []
        """What was submitted in it."""
        self.tasks: set[Any] = set()
        """Tasks that its code made and that have not ended."""
        self.bodies: set[Call] = set()
        """Calls made in it whose bodies run, or whose outcomes are being recorded."""
        self.names: set[tuple[str, str]] = set()
        """(checkpoint, id) of the calls that were named."""
        self.is_closed = False
        """Its code has returned or raised: nothing new is called in it."""
        self.is_over = False
        """Nothing of it runs any more."""

    def hand_over(self, to: Attempt, *, over: bool) -> None:
        """End it without waiting: what it began is ended with ``to``, which is above it.

        ``over``: nothing of it that has not begun may begin any more.
        """
        self.is_closed = True
        self.is_over = over
        for task in tuple(self.tasks):
            to.tasks.add(task)
            task.add_done_callback(to.tasks.discard)
        for future in self.futures:
            if not future.done:
                to.futures.append(future)


class Place:
    """A position in a running execution."""

    __slots__ = ("attempt", "branch", "printed", "run")

    def __init__(self, run: Run, attempt: Attempt, branch: Branch) -> None:
        self.run = run
        self.attempt = attempt
        self.branch = branch
        self.printed: Printed | None = None
        """What is printed here, on its way to the log."""

    def check(self) -> None:
        """Raise if the code here is to stop: wherever user code meets ours."""
        self.run.check()
        if self.run.lost:
            self.run.check_attempt(self.attempt)

    @property
    def call(self) -> Call | None:
        """The call in whose body this is; None in the flow itself."""
        return self.attempt.call


here: ContextVar[Place | None] = ContextVar("kitaru_here", default=None)
