"""What rides along: how facts are recorded, and how a write is refused.

The part that every write of an owner shares. A fact is added by a statement that is
guarded by the owner's epoch; zero rows changed is an answer, and then this file looks
why and raises the precise refusal with the row that stands there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn, Protocol

from kitaru._core.lifecycle import CallState
from kitaru._core.payload import Payload
from kitaru._store.blobs import INLINE_BYTES
from kitaru._store.protocol import (
    AlreadyRecorded,
    CallRow,
    ExecutionRow,
    Facts,
    Fenced,
    Fire,
    Import,
    Missing,
    NotInState,
    Remember,
    Start,
    Write,
)
from kitaru._store.queries import Queries
from kitaru._store.rows import Row, Rows, bind

_PAYLOAD = CallRow._fields.index("payload")


class Conflict(Exception):
    """A unique index of the database refused a row."""


class Session(Protocol):
    """A connection inside a transaction.

    Both methods raise :class:`Conflict`, or ``KitaruBackendError`` if the
    database failed.
    """

    def change(self, sql: str, parameters: Row) -> int:
        """Run a statement; how many rows it changed."""
        ...

    def rows(self, sql: str, parameters: Row) -> list[Row]: ...


class FactWrites:
    def __init__(self, session: Session, queries: Queries, rows: Rows) -> None:
        self._change = session.change
        self._select = session.rows
        self._queries = queries
        self._rows = rows
        # The hot path's own: an attribute of Queries each would cost a lookup.
        self._add_call: str = queries.add_call

    def _add_facts(self, execution: int, epoch: int, facts: Facts) -> bool:
        """Add them all, or refuse; False if there were none."""
        calls, learnt, codes, notes, metadata, *others = facts
        for call in calls:
            self._record_call(execution, epoch, call)
        if any(others):
            self._add_others(execution, epoch, facts)
        if not (learnt or codes or notes or metadata is not None):
            return bool(calls) or any(others)
        queries = self._queries
        for code in codes:
            # Nothing changes where the version is known: no reason to refuse.
            *version, sources = code
            for source in sources:
                self._change(queries.add_source, (execution, epoch, *source))
            self._change(queries.add_code, (execution, epoch, *version))
        for fact in learnt:
            what = f"{fact.kind} {fact.identity.hex()}"
            self._add_once(queries.add_learnt, (execution, epoch, *fact), what)
        for note in notes:
            if not self._change(queries.add_note, (execution, epoch, *note)):
                self._refuse_owner(execution, epoch)
        if metadata is not None and not self._change(
            queries.set_metadata, (execution, epoch, metadata)
        ):
            self._refuse_owner(execution, epoch)
        # Codes alone prove nothing: let the caller ask.
        return bool(calls or learnt or notes or any(others) or metadata is not None)

    def _add_others(self, execution: int, epoch: int, facts: Facts) -> None:
        """Waits, intents, artifacts and memories."""
        queries = self._queries
        key = (execution, epoch)
        for wait in facts.waits:
            values = (*key, *wait[:-1], *self._bind(wait.default))
            # Nothing changes where the wait is known: no reason to refuse, but to ask.
            if not self._change(queries.add_wait, values) and not self._select(
                queries.is_owned, key
            ):
                self._refuse_owner(*key)
        for intent in facts.intents:
            if not self._change(queries.add_intent, (*key, *intent)):
                self._refuse_owner(*key)
        for artifact in facts.artifacts:
            values = (*key, *artifact[:-1], *self._bind(artifact.payload))
            self._add_once(queries.add_artifact, values, f"artifact {artifact.name!r}")
        for memory in facts.memories:
            values = (*key, *memory[:-1], *self._bind(memory.payload))
            self._add_once(queries.add_memory, values, f"memory {memory.key!r}")

    def _add_once(self, sql: str, values: Row, what: str) -> None:
        try:
            added = self._change(sql, values)
        except Conflict:
            row = self._standing(values[0])
            raise AlreadyRecorded(
                f"execution {row.exec_id} has recorded {what} already", row
            ) from None
        if not added:
            self._refuse_owner(values[0], values[1])

    def _bind(self, payload: Payload | None) -> Row:
        if payload is not None and len(payload.data) > INLINE_BYTES:
            self._make_sure_of(payload)
        return bind(payload)

    def _make_sure_of(self, payload: Payload) -> None:
        """Make sure, under the write lock, of the file that a row is about to name.

        It was there before the transaction; a housekeeper may have dropped it since,
        as long as no row named it, and cannot any more now.
        """
        blobs = self._rows.blobs
        if not blobs.is_there(payload.digest):
            blobs.keep(payload)
            blobs.is_there(payload.digest)

    def _record_call(self, execution: int, epoch: int, call: CallRow) -> None:
        if len(call.payload.data) > INLINE_BYTES:
            self._make_sure_of(call.payload)
        if not self._change(self._add_call, self._call_values(execution, epoch, call)):
            self._refuse_call(execution, epoch, call)

    def _call_values(self, execution: int, epoch: int, call: CallRow) -> Row:
        codec, payload, checksum = call.payload
        data = payload if len(payload) <= INLINE_BYTES else None
        return (execution, epoch, *call[:_PAYLOAD], codec, data, checksum)

    def _refuse_call(self, execution: int, epoch: int, call: CallRow) -> NoReturn:
        if not self._select(self._queries.is_owned, (execution, epoch)):
            self._refuse_owner(execution, epoch)
        row = self._standing(execution)
        if not self._select(self._queries.find_checkpoint, (execution, call.identity)):
            # `insert or ignore` keeps silent about every constraint.
            raise AssertionError(
                f"a row of call {call.identity.hex()} ({call.checkpoint}) breaks the schema"
            )
        what = "succeeded" if call.state is CallState.COMPLETED else "failed"
        raise AlreadyRecorded(
            f"attempt {call.attempt} of call {call.identity.hex()} ({call.checkpoint}) in "
            f"execution {row.exec_id} {what}, but it, or the call, has its outcome already",
            row,
        )

    # --- refusals ---

    def _standing(self, execution: int, *, strict: bool = False) -> ExecutionRow:
        found = self._select(self._queries.execution_by_id, (execution,))
        if not found:
            raise Missing(f"there is no execution number {execution} in this store")
        return self._rows.execution(found[0], strict=strict)

    def _refuse_owner(self, execution: int, epoch: int) -> NoReturn:
        row = self._standing(execution)
        self._refuse(row, epoch, "be written to by who ran it")

    def _refuse(self, row: ExecutionRow, epoch: int, what: str) -> NoReturn:
        if row.epoch != epoch:
            raise Fenced(f"execution {row.exec_id} has gone on: it is {seen(row)}", row)
        raise NotInState(f"execution {row.exec_id} is {row.status} and cannot {what}", row)


def seen(row: ExecutionRow) -> str:
    owner = "nobody's" if row.owner is None else f"process {row.owner}'s"
    return f"{row.status}, {owner}, at epoch {row.epoch}"


def payloads_of(write: Write) -> Iterator[Payload]:
    """Every payload that a write carries: what has to be on the disk before it."""
    kind = type(write)
    if kind is Fire:
        write, kind = write.start, Start  # type: ignore[union-attr,assignment]
        if write is None:
            return
    if kind is Start:
        yield write.inputs  # type: ignore[union-attr]
        return
    if kind is Import:
        for bundle in write.bundles:  # type: ignore[union-attr]
            yield from _payloads_in(bundle)
        return
    facts: Facts | None = getattr(write, "facts", None)
    if facts is not None:
        for call in facts.calls:
            yield call.payload
        for wait in facts.waits:
            if wait.default is not None:
                yield wait.default
        for artifact in facts.artifacts:
            yield artifact.payload
        for memory in facts.memories:
            if memory.payload is not None:
                yield memory.payload
    row = write.row if kind is Remember else write  # type: ignore[union-attr]
    for name in ("result", "failure", "payload"):
        payload = getattr(row, name, None)
        if payload is not None:
            yield payload


def _payloads_in(value: object) -> Iterator[Payload]:
    """Every payload in a tree of records and lists."""
    if isinstance(value, Payload):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _payloads_in(item)
