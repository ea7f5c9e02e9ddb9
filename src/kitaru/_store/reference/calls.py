"""The model of what is asked of recorded calls and code. See :mod:`kitaru._store.reference`."""

from __future__ import annotations

from collections.abc import Sequence

from kitaru._core.lifecycle import CallState
from kitaru._core.payload import Payload
from kitaru._store.protocol import (
    LearntRow,
    Outcome,
    PastCall,
    Place,
    RecordedCall,
    RecordedCode,
    Reusable,
    Sample,
)
from kitaru._store.reference.reads import Reads
from kitaru._store.reference.tables import Call
from kitaru.errors import KitaruNotFoundError


class Calls(Reads):
    def _recorded(self, execution: int) -> list[Call]:
        with self._inside():
            return self._calls_of(execution)

    def count_outcomes(self, exec_id: str, *, limit: int) -> tuple[int, int]:
        row = self.find_execution(exec_id)
        calls = [] if row is None else self._recorded(row.id)[:limit]
        completed = sum(call.row.state is CallState.COMPLETED for call in calls)
        return completed, len(calls) - completed

    def load_outcomes(self, execution: int) -> list[Outcome]:
        return [
            Outcome(
                call.id,
                call.row.identity,
                call.row.attempt,
                call.row.state,
                call.row.retry_at,
                call.reopened,
                call.row.reused_from,
            )
            for call in self._recorded(execution)
        ]

    def load_learnt(self, execution: int) -> list[LearntRow]:
        with self._inside():
            return list(self._learnt.get(execution, {}).values())

    def load_payloads(self, execution: int, calls: Sequence[int]) -> list[tuple[int, Payload]]:
        wanted = set(calls)
        return [(c.id, c.row.payload) for c in self._recorded(execution) if c.id in wanted]

    def load_seconds(self, execution: int, calls: Sequence[int]) -> list[tuple[int, float]]:
        found = [c for c in self._recorded(execution) if c.id in set(calls)]
        return [(c.id, (c.row.ended_at - c.row.started_at) / 1e6) for c in found]

    def load_payload(self, call: int) -> Payload:
        with self._inside():
            if call not in self._calls:
                raise KitaruNotFoundError(
                    f"there is no call number {call}: look at the list again", code="row-gone"
                )
            return self._calls[call].row.payload

    def list_places(self, execution: int) -> list[Place]:
        places = [
            Place(
                row.parent,
                row.parent_attempt,
                row.branch,
                row.checkpoint,
                row.identity,
                row.place,
                row.arguments,
            )
            for row in (call.row for call in self._recorded(execution))
            if row.state is CallState.COMPLETED
        ]
        return sorted(places, key=lambda place: place.place)

    def find_reusable(
        self, reuse_key: bytes, *, execution: int, before: int | None, since: int | None
    ) -> Reusable | None:
        with self._inside():
            for call in reversed(self._calls.values()):
                row = call.row
                if (
                    row.reuse_key == reuse_key
                    and row.state is CallState.COMPLETED
                    and call.execution != execution
                    and call.execution in self._executions
                    and (before is None or call.id < before)
                    and (since is None or row.ended_at >= since)
                ):
                    exec_id = self._executions[call.execution].exec_id
                    return Reusable(
                        call.id, exec_id, row.identity, row.started_at, row.ended_at, row.payload
                    )
        return None

    def list_codes(self, *, project: str, checkpoint: str, limit: int) -> list[RecordedCode]:
        with self._inside():
            versions = [
                RecordedCode(code.digest, code.parts, execution, code.files, code.unseen)
                for (in_project, _, _), (code, execution) in self._codes.items()
                if in_project == project and code.checkpoint == checkpoint
            ]
        return versions[::-1][:limit]

    def sample_arguments(self, execution: int, *, checkpoint: str, limit: int) -> list[str]:
        rows = (call.row for call in self._recorded(execution))
        return [row.arguments for row in rows if row.checkpoint == checkpoint][:limit]

    def list_samples(
        self, execution: int, *, checkpoint: str, before: int, limit: int
    ) -> list[Sample]:
        return [
            Sample(call.id, call.row.arguments, call.row.inputs)
            for call in reversed(self._recorded(execution))
            if call.row.checkpoint == checkpoint and call.id < before
        ][:limit]

    def load_source(self, digest: bytes) -> bytes | None:
        with self._inside():
            return self._sources.get(digest)

    def find_checkpoint(self, execution: int, identity: bytes) -> str | None:
        rows = (call.row for call in self._recorded(execution))
        return next((row.checkpoint for row in rows if row.identity == identity), None)

    def list_calls(self, execution: int, *, after: int = 0, limit: int) -> list[RecordedCall]:
        with self._inside():
            return [
                RecordedCall(call.id, call.row, call.reopened, self._source_of(call))
                for call in self._calls_of(execution)
                if call.id > after
            ][:limit]

    def list_past(self, execution: int, *, upto: int) -> list[PastCall]:
        return [
            PastCall(
                call.id,
                row.identity,
                row.attempt,
                row.state,
                row.retry_at,
                call.reopened,
                row.source,
                row.seq,
                row.place,
                row.checkpoint,
                row.named,
                row.parent,
                row.parent_attempt,
                row.branch,
                row.arguments,
                row.code,
                row.metadata,
                row.started_at,
                row.ended_at,
            )
            for call in self._recorded(execution)
            if call.id <= upto
            for row in (call.row,)
        ]

    def _source_of(self, call: Call) -> str | None:
        source = self._calls.get(call.row.reused_from or 0)
        if source is None:
            return self._gone_calls.get(call.row.reused_from or 0)
        deleted = self._deleted.get(source.execution)
        exec_id = deleted or self._executions[source.execution].exec_id
        return f"{exec_id}:{source.row.identity.hex()}"
