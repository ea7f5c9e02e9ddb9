"""What a process does that was declared dead while it lived: its lease was over too long.

What it owned is lost to it: each execution leaves, bodies that still run may record only
where nobody has taken the epoch yet, and what was parked here is served like that of
anybody who died. The process itself goes on as another owner, and takes up again what
nobody was quicker to take.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from kitaru._core.lifecycle import State
from kitaru._engine.unwind import Why
from kitaru.errors import KitaruBackendError

if TYPE_CHECKING:
    from kitaru._engine.execution import Life
    from kitaru._engine.run import Run
    from kitaru._engine.runner import Runner


def lose(runner: Runner) -> None:
    """Let go of everything that this process owned under the number that was declared dead."""
    for life in runner.lives():
        if runner.ownership.was_own(life.row.owner):
            end(runner, life.run)
    runner.noticing.lose_home()
    runner.ring()


def end(runner: Runner, run: Run) -> None:
    silence = runner.ownership.silence() or "its lease was over"
    run.end(
        Why.LOST,
        f"execution {run.exec_id} is given up by process {runner.ownership.pid}, which was "
        f"declared dead: {silence}",
    )


def take_up_again(runner: Runner, life: Life) -> None:
    """Go on with an execution that was lost, if nobody else does: whoever started it serves it."""
    unwound = life.completion.unwound
    if unwound is None or unwound.why is not Why.LOST or runner.is_leaving:
        return
    if not runner.ownership.was_own(life.row.owner):
        return
    with contextlib.suppress(KitaruBackendError):  # else whoever adopts has it
        row = runner.store.find_execution(life.row.exec_id)
        if row is not None and row.status is State.RUNNING and row.owner == life.row.owner:
            runner.take(life.flow, row, life.context)
