"""Where a piece of code stands: in which execution, call and branch.

One context variable carries it. asyncio copies it into tasks, ``to_thread``
into its thread, and our own pools into theirs; a thread that carries no
context is outside every flow.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kitaru._core.branch import Branch
    from kitaru._engine.call import Call
    from kitaru._engine.run import Run


class Place:
    """A position in a running execution: in its flow (``call`` is None) or in a call's body."""

    __slots__ = ("branch", "call", "run")

    def __init__(self, run: Run, call: Call | None, branch: Branch) -> None:
        self.run = run
        self.call = call
        self.branch = branch


here: ContextVar[Place | None] = ContextVar("kitaru_here", default=None)
