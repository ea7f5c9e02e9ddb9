"""How a process lets go of what it runs: bodies finish, the rest is handed back (O6)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from kitaru._core.lifecycle import State
from kitaru._engine.execution import Life
from kitaru._engine.outage import is_away
from kitaru._engine.unwind import Unwind, Why
from kitaru._store.protocol import ExecutionRow, Refused
from kitaru.errors import KitaruBackendError

if TYPE_CHECKING:
    from kitaru._engine.runner import Runner

_POLL_SECONDS = 0.02


def drain(runner: Runner, seconds: float) -> list[str]:
    """Start nothing new, let bodies finish and record for ``seconds``, hand back the rest.

    What is handed back is pending, with no owner and a higher epoch: a
    body that still runs is fenced, and its death is nobody's. -> what is pending now of
    what ran here.
    """
    env = runner.services.env
    runner.services.draining = True
    deadline = env.monotonic() + seconds
    considered: set[str] = set()
    ran = [life.row for life in runner.launched()]
    while not runner.wait_idle(0.0):
        _end_those_without_bodies(runner.launched(), considered)
        left = deadline - env.monotonic()
        if left <= 0 or runner.wait_idle(min(left, _POLL_SECONDS)):
            break
    runner.services.gone = True
    runner.services.outage.stop()
    for life in runner.launched():
        _hand_back(runner, life)
    return _pending(runner, ran)


def _pending(runner: Runner, rows: list[ExecutionRow]) -> list[str]:
    """Those that are for others to go on with; of a store that is away nothing is known."""
    with contextlib.suppress(KitaruBackendError):
        states = [(row, *runner.store.get_status(row.id)) for row in rows]
        # By now somebody may have gone on with it.
        return [
            row.exec_id
            for row, state, epoch, _ in states
            if epoch > row.epoch and state in (State.PENDING, State.RUNNING)
        ]
    return []


def _end_those_without_bodies(lives: list[Life], considered: set[str]) -> None:
    """Unwinding an async flow cancels what it awaits, so its bodies finish first.

    What stands in a wait or a sleep is parked rather than handed back: there is nothing
    to go on with. An async flow is given one round to find out.
    """
    for life in lives:
        if life.began and life.run.standing and life.row.exec_id not in considered:
            considered.add(life.row.exec_id)
            life.run.standing.consider()
            continue
        if life.began and not (life.flow.is_async and life.run.bodies):
            life.run.end(Why.HANDED_BACK, f"execution {life.row.exec_id} is handed back")


def _hand_back(runner: Runner, life: Life) -> None:
    epoch = life.run.epoch if life.began else life.row.epoch
    try:
        runner.release(life.row, epoch)
    except (Refused, KitaruBackendError) as error:
        if is_away(error):
            runner.services.say(
                f"execution {life.row.exec_id} could not be handed back, because the store is "
                "away: others take it over once this process counts as dead; what had ended here "
                "and was not recorded yet runs again there"
            )
        # It ended meanwhile, or the store is gone: then the lock is the hand-back.
        return


def abandon(runner: Runner) -> None:
    """Let whoever waits here look at the store: a test has killed this life."""
    for completion in [*runner.give_up_completions(), *runner.noticing.followed()]:
        completion.unwound = Unwind(Why.LOST, "the life that ran it was killed")
        completion.over()
