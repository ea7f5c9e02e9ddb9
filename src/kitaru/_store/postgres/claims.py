"""Claims of what is queued, by as few statements as there can be, however many are claimed.

One where the project has no limits. Else three: candidates are locked, then the limits
that they are under, and only then are slots counted, by a statement that begins after that;
the last claims all that were chosen, and takes their slots. What is counted under a
snapshot from before the lock lets one too many through.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from kitaru._core.queueing import Queued, choose
from kitaru._store.protocol import ClaimNext, ExecutionRow, Fenced
from kitaru._store.rows import Row
from kitaru._store.writes import Writes


class ClaimWrites(Writes):
    def claim_next(self, write: ClaimNext) -> list[ExecutionRow]:
        flows = json.dumps(list(dict.fromkeys(write.flow_ids)))
        queues = json.dumps(list(write.queues)) if write.queues else None
        which = (write.project, flows, queues, write.at)
        values = (*which, write.limit, write.owner, write.alone)
        claimed = self._select(self._queries.claim_next, values)
        if claimed:
            return self._claimed(claimed)
        if not self._is_alive(write.owner):
            raise Fenced(f"process {write.owner} was declared dead: it claims nothing any more")
        if not self._select(self._queries.list_limits, (write.project,)):
            return []
        return self._claim_limited(write, which)

    def _claim_limited(self, write: ClaimNext, which: Row) -> list[ExecutionRow]:
        suspects = self._select(self._queries.oldest_suspect, which) if write.alone else []
        if suspects:
            number, epoch = suspects[0]
            row = self._standing(number)
            candidates = [Queued(number, epoch, 0, 0, 0, row.queue, row.limit_key)]
        else:
            found = self._select(self._queries.list_claimable, (*which, write.limit))
            candidates = [Queued._make(row) for row in found]
        if not candidates:
            return []
        room = self._locked_room(write.project, candidates)
        numbers = [one.id for one in choose(candidates, room, limit=write.limit)]
        values = (json.dumps(numbers), write.owner, write.at, write.project)
        return self._claimed(self._select(self._queries.claim_chosen, values)) if numbers else []

    def _locked_room(self, project: str, candidates: Sequence[Queued]) -> dict[str, int]:
        names = {name for one in candidates for name in (one.queue, one.limit_key) if name}
        self._select(self._queries.lock_limits, (project, json.dumps(sorted(names))))
        return self._room(project)

    def _claimed(self, rows: Sequence[Row]) -> list[ExecutionRow]:
        return [self._rows.execution(row, strict=False) for row in rows]
