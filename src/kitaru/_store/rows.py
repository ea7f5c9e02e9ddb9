"""Database rows <-> the records of the protocol.

The only place that knows in which columns a payload stands and that checks its
digest when it is read. This file knows no SQL: it relies on the order of the
columns in ``execution_rows`` and in the queries over ``calls``.
"""

from __future__ import annotations

from typing import Any, NoReturn

from kitaru._core.lifecycle import CallSource, CallState, State, WaitKind, WaitState
from kitaru._core.payload import Payload, is_intact
from kitaru._store.blobs import INLINE_BYTES, BlobStore
from kitaru._store.protocol import (
    ArtifactRow,
    CallRow,
    ExecutionRow,
    MemoryRow,
    Outcome,
    PastCall,
    RecordedArtifact,
    RecordedCall,
    RecordedMemory,
    RecordedWait,
    WaitRow,
)
from kitaru.errors import KitaruValueError

Row = tuple[Any, ...]

UNREADABLE = "unreadable"
"""The codec of what stands in a list, or in a refusal, for a payload that is damaged.

No decoder knows it, so it can never pass for a value; and one damaged file
does not hide every other execution from those who list and recover them.
"""

_STATES = {state.value: state for state in State}
_CALL_STATES = {state.value: state for state in CallState}
_WAIT_STATES = {state.value: state for state in WaitState}
_WAIT_KINDS = {kind.value: kind for kind in WaitKind}
_SOURCES = {source.value: source for source in CallSource}


def state_of(text: str) -> State:
    return _STATES[text]


def bind(payload: Payload | None) -> Row:
    """(codec, data, checksum); data is None where the bytes are a blob."""
    if payload is None:
        return (None, None, None)
    codec, data, digest = payload
    return (codec, data if len(data) <= INLINE_BYTES else None, digest)


def outcome(row: Row) -> Outcome:
    number, identity, attempt, state, retry_at, reopened, reused_from = row
    return Outcome(
        number, identity, attempt, _CALL_STATES[state], retry_at, reopened == 1, reused_from
    )


def past_call(row: Row) -> PastCall:
    number, identity, attempt, state, retry_at, reopened, source, *rest = row
    return PastCall(
        number,
        identity,
        attempt,
        _CALL_STATES[state],
        retry_at,
        reopened == 1,
        _SOURCES[source],
        *rest,
    )


_WIDTH = len(ExecutionRow._fields) + 6
"""The columns of an execution: each of its three payloads has three. What stands behind them
is a newer Kitaru's, which has brought the store up to date while this one goes on."""


class Rows:
    """Reads rows that may name blobs."""

    def __init__(self, blobs: BlobStore) -> None:
        self.blobs = blobs

    def find_payload(self, codec: str, data: bytes | None, checksum: bytes) -> Payload | None:
        """The payload, or None if its bytes are lost or are not those that were sealed."""
        if data is None:
            data = self.blobs.find(checksum)
            return None if data is None else Payload(codec, data, checksum)
        payload = Payload(codec, data, checksum)
        return payload if is_intact(payload) else None

    def payload(
        self, codec: str, data: bytes | None, checksum: bytes, *, what: str, checkpoint: str | None
    ) -> Payload:
        payload = self.find_payload(codec, data, checksum)
        if payload is None:
            self._refuse(data, checksum, what, checkpoint)
        return payload

    def payload_or_mark(self, codec: str, data: bytes | None, checksum: bytes) -> Payload:
        """The payload; if it is damaged, the mark that no decoder takes for a value."""
        return self.find_payload(codec, data, checksum) or Payload(UNREADABLE, b"", checksum)

    def _refuse(
        self, data: bytes | None, checksum: bytes, what: str, checkpoint: str | None
    ) -> NoReturn:
        where = "its bytes in the database" if data is not None else self.blobs.path(checksum)
        raise KitaruValueError(
            f"{what} cannot be read back: {where} are missing or not those that were recorded "
            f"(digest {checksum.hex()[:16]}…). Restore the store from a backup, or start "
            "a new execution; nothing was changed",
            checkpoint=checkpoint,
            code="record-corrupt",
        )

    def execution(self, row: Row, *, strict: bool) -> ExecutionRow:
        """``strict``: a damaged payload raises; else it is marked :data:`UNREADABLE`."""
        exec_id = row[1]
        return ExecutionRow._make(
            (
                *row[:5],
                _STATES[row[5]],
                *row[6:14],
                self._part(row[14:17], strict, "the inputs", exec_id),
                self._part(row[17:20], strict, "the result", exec_id),
                self._part(row[20:23], strict, "the failure", exec_id),
                tuple(bytes.fromhex(identity) for identity in row[23].split()),
                *row[24:_WIDTH],
            )
        )

    def _part(self, columns: Row, strict: bool, what: str, exec_id: str) -> Payload | None:
        codec, data, checksum = columns
        if checksum is None:
            return None
        if not strict:
            return self.payload_or_mark(codec, data, checksum)
        what = f"{what} of execution {exec_id}"
        return self.payload(codec, data, checksum, what=what, checkpoint=None)

    def recorded_call(self, row: Row) -> RecordedCall:
        number, identity, attempt, state, source, *middle = row[:25]
        codec, data, checksum, reopened, reused_from = row[25:]
        call = CallRow._make(
            (
                identity,
                attempt,
                _CALL_STATES[state],
                _SOURCES[source],
                *middle,
                self.payload_or_mark(codec, data, checksum),
            )
        )
        return RecordedCall(number, call, reopened == 1, reused_from)

    def recorded_wait(self, row: Row) -> RecordedWait:
        number, identity, kind, *middle = row[:12]
        default = self._mark(row[12:15])
        state, closed_at, closed_by = row[15:18]
        wait = WaitRow._make((identity, _WAIT_KINDS[kind], *middle, default))
        answer = self._mark(row[18:])
        return RecordedWait(number, wait, _WAIT_STATES[state], closed_at, closed_by, answer)

    def recorded_artifact(self, row: Row) -> RecordedArtifact:
        number, exec_id, *fields = row[:8]
        saved = ArtifactRow._make((*fields, self.payload_or_mark(*row[8:])))
        return RecordedArtifact(number, exec_id, saved)

    def listed_artifact(self, row: Row) -> RecordedArtifact:
        """One whose value is not read along."""
        number, exec_id, *fields, codec, digest = row
        return RecordedArtifact(
            number, exec_id, ArtifactRow._make((*fields, Payload(codec, b"", digest)))
        )

    def recorded_memory(self, row: Row) -> RecordedMemory:
        *_, version, exec_id = row
        written = MemoryRow._make((*row[:5], self._mark(row[5:8])))
        return RecordedMemory(written, version, exec_id)

    def _mark(self, columns: Row) -> Payload | None:
        codec, data, checksum = columns
        return None if checksum is None else self.payload_or_mark(codec, data, checksum)
