"""The model of what a run records: outcomes, what was learnt, code, and what comes with them.

All of it is checked before any of it is put down. See :mod:`kitaru._store.reference`.
"""

from __future__ import annotations

from kitaru._core.lifecycle import CallState
from kitaru._store.protocol import (
    AlreadyRecorded,
    CodeRow,
    ExecutionRow,
    Facts,
    Record,
)
from kitaru._store.reference.control import Control
from kitaru._store.reference.memory import Keeping
from kitaru._store.reference.tables import Call


class Recording(Control, Keeping):
    def _record(self, write: Record) -> None:
        row = self._owned(write.execution, write.epoch)
        self._check_facts(row, write.facts)
        self._put(self._add_facts(row, write.facts))

    def _check_facts(self, row: ExecutionRow, facts: Facts) -> None:
        recorded = [call.row for call in self._calls_of(row.id)]
        for call in facts.calls:
            for other in recorded:
                same_call = other.identity == call.identity
                if same_call and (
                    other.state is CallState.COMPLETED or other.attempt == call.attempt
                ):
                    raise AlreadyRecorded(f"call {call.identity.hex()} has its outcome", row)
            recorded.append(call)
        learnt = set(self._learnt.get(row.id, ()))
        for fact in facts.learnt:
            if fact.identity in learnt:
                raise AlreadyRecorded(f"{fact.kind} {fact.identity.hex()} is learnt", row)
            learnt.add(fact.identity)
        saved = {(a.call, a.attempt, a.name) for of, a in self._artifacts.values() if of == row.id}
        for artifact in facts.artifacts:
            if (artifact.call, artifact.attempt, artifact.name) in saved:
                raise AlreadyRecorded(f"artifact {artifact.name} is saved", row)
            saved.add((artifact.call, artifact.attempt, artifact.name))
        asked = {m.row.identity for _, m in self._memories if m.exec_id == row.exec_id}
        for memory in facts.memories:
            if memory.identity is not None and memory.identity in asked:
                raise AlreadyRecorded(f"memory {memory.key} is written", row)
            asked.add(memory.identity)

    def _add_facts(self, row: ExecutionRow, facts: Facts) -> ExecutionRow:
        for call in facts.calls:
            number = self._next_number("calls")
            self._calls[number] = Call(number, row.id, call)
        for fact in facts.learnt:
            self._learnt.setdefault(row.id, {})[fact.identity] = fact
        for code in facts.codes:
            self._add_code(row, code)
        self._notes.setdefault(row.id, []).extend(facts.notes)
        for wait in facts.waits:
            self._add_wait(row.id, wait)
        for intent in facts.intents:
            self._add_intent(row.id, intent)
        for artifact in facts.artifacts:
            self._add_artifact(row.id, artifact)
        for memory in facts.memories:
            self._add_memory(row.project, memory, row.exec_id)
        return row if facts.metadata is None else row._replace(metadata=facts.metadata)

    def _add_code(self, row: ExecutionRow, code: CodeRow) -> None:
        version = (row.project, code.checkpoint, code.digest)
        known, execution = self._codes.setdefault(version, (code, row.id))
        if known.files is None and code.files is not None:
            self._codes[version] = (known._replace(files=code.files, unseen=code.unseen), execution)
        for source in code.sources:
            self._sources.setdefault(*source)
