"""Letting go of an execution that only waits: the last thing that a life of it does.

By now all its tasks and bodies have ended. What it stands for was noted when the
park was decided; the store looks in the same transaction whether any of it has
arrived meanwhile, so nothing can arrive unseen between the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitaru._core.lifecycle import State
from kitaru._engine.effects import Commit, Steps
from kitaru._store.protocol import Park

if TYPE_CHECKING:
    from kitaru._engine.run import Run


def park(run: Run) -> Steps[State]:
    """Commit that the execution waits -> waiting, or pending if something has arrived."""
    parking = run.standing.parking
    assert parking is not None
    facts = run.take_facts()
    write = Park(
        run.id,
        run.epoch,
        parking.waits,
        parking.children,
        parking.due_at,
        parking.reason,
        run.row.owner,
        facts,
        run.env.now(),
    )
    state: State = yield Commit(run, write, facts)
    return state
