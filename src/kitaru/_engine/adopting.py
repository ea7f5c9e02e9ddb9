"""What nobody alive runs or serves, found and gone on with here (O3).

For a process that adopts: a worker, or one that called ``recover()``. One look is a few
queries; how often it is taken is the runner's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kitaru._core.lifecycle import State
from kitaru._engine.execution import FlowSpec
from kitaru._store.protocol import ExecutionRow, Refused, Wake

if TYPE_CHECKING:
    from kitaru._engine.runner import Runner

ADOPT_POLL_SECONDS = 0.5
"""How often an adopting process looks for executions without a live owner (O3: 2 s)."""

MAX_ADOPT = 100
"""Executions looked at in one scan; the next scan comes half a second later."""

_SOON = 1_000_000

MAX_INTERRUPTED = 1000
"""Executions of the dead in one scan of a worker; what it takes is not there the next time."""


def adopt(runner: Runner, flows: Mapping[str, FlowSpec]) -> None:
    """Take what is abandoned of these flows, and what is due and has no home any more."""
    # Those of the living are left out by the store: they must not fill this list for ever.
    alive = [one.id for one in runner.store.list_owners() if not runner.ownership.is_gone(one.id)]
    rows = runner.store.list_unfinished(
        project=runner.services.project, flow_ids=list(flows), limit=MAX_ADOPT, but_of=alive
    )
    _take_abandoned(runner, flows, rows)
    wake_abandoned(runner, flows)


def adopt_interrupted(runner: Runner, flows: Mapping[str, FlowSpec]) -> None:
    """Take what those ran that were declared dead: what is pending is claimed from the queues."""
    rows = runner.store.list_interrupted(
        project=runner.services.project, flow_ids=list(flows), limit=MAX_INTERRUPTED
    )
    _take_abandoned(runner, flows, rows)


def _take_abandoned(
    runner: Runner, flows: Mapping[str, FlowSpec], rows: Sequence[ExecutionRow]
) -> None:
    alive = _Alive(runner)
    for row in rows:
        if not alive[row.home if row.status is State.PENDING else row.owner]:
            runner.take(flows[row.flow_id], row)


def wake_abandoned(runner: Runner, flows: Mapping[str, FlowSpec]) -> int | None:
    """Go on with what is due, and was parked by a process that is dead -> what is due next."""
    now, project = runner.services.env.now(), runner.services.project
    next_due = runner.store.next_due(project=project)
    if next_due is None or next_due > now:
        return next_due
    alive = _Alive(runner)
    served: set[int] = set()
    while True:
        rows = runner.store.list_due(
            project=project, at=now, limit=MAX_ADOPT, but_of=sorted(served)
        )
        homes = {row.home for row in rows if row.home is not None and alive[row.home]}
        for row in rows:
            if row.home not in homes:
                _wake(runner, flows, row, now)
        if len(rows) < MAX_ADOPT or not homes:
            return now + _SOON  # behind those there may be others
        # One that leaves has its due ones until it is gone: they must not hide the others.
        served |= homes


def _wake(runner: Runner, flows: Mapping[str, FlowSpec], row: ExecutionRow, now: int) -> None:
    # Also what others have to run: it must not fill the list for ever.
    try:
        runner.store.apply(Wake(row.id, row.epoch, now))
    except Refused:
        return  # Another process that adopts was quicker.
    woken = runner.store.find_execution(row.exec_id)
    if woken is not None and woken.flow_id in flows:
        runner.take(flows[woken.flow_id], woken)


class _Alive(dict[int | None, bool]):
    """Owner -> whether it keeps what it has, asked once in a scan."""

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self._ownership = runner.ownership

    def __missing__(self, owner: int | None) -> bool:
        found = self[owner] = not self._ownership.is_gone(owner)
        return found
