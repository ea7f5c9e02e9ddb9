"""Recording executions that come from elsewhere, whole, in one transaction."""

from __future__ import annotations

from typing import Any

from kitaru._store.facts import Conflict, FactWrites
from kitaru._store.protocol import AlreadyRecorded, Bundle, ExecutionRow, Import, KeptCall
from kitaru._store.rows import Row


class ImportWrites(FactWrites):
    def import_(self, write: Import) -> list[ExecutionRow]:
        numbers = []
        try:
            numbers = [self._import_execution(bundle) for bundle in write.bundles]
            for number, bundle in zip(numbers, write.bundles, strict=True):
                self._import_all(number, bundle)
        except Conflict as conflict:
            raise AlreadyRecorded(f"an id or a key is taken: {conflict}") from None
        # Once all are here, for they may have reused one another's.
        for number, bundle in zip(numbers, write.bundles, strict=True):
            for call in bundle.calls:
                self._import_call(number, call)
        return [self._standing(number) for number in numbers]

    def _import_execution(self, bundle: Bundle) -> int:
        row = bundle.row
        values = (
            *row[1:5],
            row.status,
            row.status_reason,
            row.epoch,
            row.deaths,
            row.attempt,
            row.key,
            row.inputs_digest,
            row.seed,
            row.spec,
            row.metadata,
            row.tags,
            row.code_folder,
            row.code_module,
            row.created_at,
            row.started_at,
            row.ended_at,
            row.parent_exec_id,
            row.parent_call,
            row.original_exec_id,
            row.deadline_at,
            row.keep_seconds,
            row.queue,
            row.priority,
            row.limit_key,
            " ".join(identity.hex() for identity in row.failed_calls),
            bundle.failed_attempt(),
            *self._bind(row.inputs),
            *self._bind(row.result),
        )
        ((number,),) = self._select(self._queries.import_execution, values)
        return int(number)

    def _import_all(self, number: int, bundle: Bundle) -> None:
        queries = self._queries
        for attempt in bundle.attempts:
            self._insert(queries.import_attempt, number, attempt[:-1], attempt.failure)
        for fact in bundle.learnt:
            self._insert(queries.import_learnt, number, fact)
        for note in bundle.notes:
            self._insert(queries.import_note, number, note)
        for wait in bundle.waits:
            default = self._bind(wait.row.default)
            closed = (wait.state, wait.closed_at, wait.closed_by, *self._bind(wait.payload))
            self._insert(queries.import_wait, number, (*wait.row[:-1], *default, *closed))
        for intent in bundle.intents:
            self._insert(queries.import_intent, number, intent)
        for artifact in bundle.artifacts:
            self._insert(queries.import_artifact, number, artifact[:-1], artifact.payload)
        for code in bundle.codes:
            self._change(queries.import_code, (bundle.row.project, *code[:-1], number))

    def _insert(self, sql: str, number: int, values: Row, *payloads: Any) -> None:
        bound = (column for payload in payloads for column in self._bind(payload))
        self._change(sql, (number, *values, *bound))

    def _import_call(self, number: int, call: KeptCall) -> None:
        row = call.row._replace(reused_from=self._source(call.reused_from))
        values = (number, *row[:-1], *self._bind(row.payload), int(call.reopened))
        try:
            self._change(self._queries.import_call, values)
        except Conflict as conflict:
            raise AlreadyRecorded(f"a call is there twice: {conflict}") from None

    def _source(self, name: str | None) -> int | None:
        """The number of the call that was reused; of one that is not here, a number below zero."""
        if name is None:
            return None
        exec_id, _, identity = name.partition(":")
        where = (exec_id, bytes.fromhex(identity))
        queries = self._queries
        found = self._select(queries.call_by_name, where) or self._select(
            queries.gone_call_by_name, where
        )
        if not found:
            found = self._select(queries.import_source, where)
        return int(found[0][0])
