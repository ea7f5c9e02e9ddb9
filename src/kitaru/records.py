"""Stored rows as the frozen records that people and programs look at.

Reads only what is recorded: no user class is needed, and none imported, to
look at an execution. A row that is damaged or made by somebody else still
gives a record that says so, so that one of them does not hide the others.
Knows nothing of finding executions or acting on them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from kitaru._core.identity import ID_DIGITS, id_digits
from kitaru._core.lifecycle import FINISHED, CallSource, CallState, State, WaitState
from kitaru._core.naming import shown_name
from kitaru._core.payload import Payload
from kitaru._core.reuse import explain
from kitaru._core.values import decode, failure_info, preview
from kitaru._core.values.codec import open_payload, text_bytes
from kitaru._core.values.preview import without_data
from kitaru._store.protocol import (
    CallRow,
    ExecutionRow,
    NoteRow,
    RecordedArtifact,
    RecordedAttempt,
    RecordedCall,
    RecordedWait,
    Store,
)
from kitaru.errors import FailureOrigin, KitaruError, KitaruNotFoundError, KitaruValueError
from kitaru.model import (
    ArtifactRef,
    CheckpointAttempt,
    CheckpointCall,
    Execution,
    FailureInfo,
    Note,
    PendingWait,
)
from kitaru.status import ExecutionStatus

MAX_SHOWN_BYTES = 4096
MAX_ANSWER_BYTES = 200
"""Of an answer in a note."""
MAX_PARSED_BYTES = 1024 * 1024
"""Inputs beyond this are shown by size and digest, without reading them."""

_PAGE = 1000
_MAX_SAVED = 100_000
_FIRST_SECOND = -62_135_596_800
_LAST_SECOND = 253_402_300_799
"""The years 1 and 9999: beyond them there is no datetime."""


def instant(at: int) -> datetime:
    """Microseconds since the epoch as an aware UTC datetime.

    >>> instant(0).isoformat()
    '1970-01-01T00:00:00+00:00'
    """
    seconds, microseconds = divmod(at, 1_000_000)
    # A row that was edited may say anything; it must not keep the others from being shown.
    seconds = min(max(seconds, _FIRST_SECOND), _LAST_SECOND)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)


def _instant_or_none(at: int | None) -> datetime | None:
    return None if at is None else instant(at)


# --- executions -----------------------------------------------------------------------


def status_of(row: ExecutionRow, is_alive: Callable[[int | None], bool]) -> ExecutionStatus:
    """What an execution is: ``interrupted`` if it is recorded as running and its owner is dead."""
    if row.status is State.RUNNING and not is_alive(row.owner):
        return ExecutionStatus.INTERRUPTED
    return ExecutionStatus(row.status.value)


def execution_of(
    row: ExecutionRow,
    *,
    status: ExecutionStatus,
    notes: Iterable[NoteRow],
    attempts: Iterable[RecordedAttempt],
    client: Any,
    is_left: bool = False,
    waits: Sequence[RecordedWait] = (),
    waits_for: str | None = None,
) -> Execution:
    """The record of an execution; its calls are read when they are asked for."""
    return Execution(
        exec_id=row.exec_id,
        flow_id=row.flow_id,
        flow_name=row.flow_name,
        status=status,
        status_reason=waits_for or _reason(row, status, is_left),
        created_at=instant(row.created_at),
        started_at=_instant_or_none(row.started_at),
        ended_at=_instant_or_none(row.ended_at),
        metadata=_mapping(row.metadata),
        # The row keeps why the last attempt failed; it is over once another one runs.
        failure=failure_of(row.failure) if row.status is State.FAILED else None,
        pending_wait=next(iter(pending_waits_of(row, waits)), None),
        original_exec_id=row.original_exec_id,
        parent_exec_id=row.parent_exec_id,
        tags=_tags(row.tags),
        key=row.key,
        queue=row.queue,
        priority=row.priority,
        limit_key=row.limit_key,
        due_at=_instant_or_none(row.due_at),
        attempts=row.attempt,
        notes=_all_notes(notes, attempts, waits),
        inputs=shown_inputs(row.inputs),
        frozen_execution_spec=_mapping(row.spec),
        _client=client,
    )


def _all_notes(
    notes: Iterable[NoteRow], attempts: Iterable[RecordedAttempt], waits: Iterable[RecordedWait]
) -> tuple[Note, ...]:
    """What was noted, how attempts failed and who answered, in the order of time."""
    closed = (_closed_wait(wait) for wait in waits if wait.closed_by is not None)
    return tuple(sorted([*map(_note, notes), *map(_failed_attempt, attempts), *closed], key=_when))


def _note(row: NoteRow) -> Note:
    return Note(row.kind, row.message, instant(row.at))


def _failed_attempt(attempt: RecordedAttempt) -> Note:
    """A try of the whole flow that failed: it stays to be seen when the next one completes."""
    info = failure_of(attempt.failure)
    what = "" if info is None else f": {info.exception_type}: {info.message}"
    text = f"attempt {attempt.attempt} failed{what}"
    return Note("failed_attempt", text, instant(attempt.ended_at))


def _closed_wait(wait: RecordedWait) -> Note:
    """Who closed a wait, and with what: the record of a person's decision."""
    given = ""
    if (
        wait.state is WaitState.ANSWERED
        and wait.payload is not None
        and wait.row.schema is not None
    ):
        given = f" with {_short(wait.payload)}"
    text = f"{wait.row.label} was {wait.state.value} by {wait.closed_by}{given}"
    return Note(wait.state.value, text, instant(wait.closed_at or wait.row.opened_at))


def _short(payload: Payload) -> str:
    """An answer in one short line of JSON."""
    try:
        return preview(result_tree(payload, "the answer"), MAX_ANSWER_BYTES)
    except KitaruValueError as error:
        return f"(not shown: {error})"


def _when(note: Note) -> datetime:
    return note.at


def _reason(row: ExecutionRow, status: ExecutionStatus, is_left: bool) -> str | None:
    reason = row.status_reason or _derived_reason(row, status)
    if is_left:
        return f"{reason}; its process is gone: kitaru executions cancel {row.exec_id} ends it"
    return reason


def _derived_reason(row: ExecutionRow, status: ExecutionStatus) -> str | None:
    if status is ExecutionStatus.INTERRUPTED:
        return "the process that ran it is gone; resume it"
    if row.status is State.PENDING and row.epoch > 0 and row.attempt == 1:
        return "handed back by the process that ran it; resume it"
    return None


def failure_of(payload: Payload | None) -> FailureInfo | None:
    """A recorded failure, or one that says that the record cannot be read."""
    if payload is None:
        return None
    try:
        return failure_info(payload)
    except KitaruError as error:
        return FailureInfo(str(error), "", "", FailureOrigin.UNKNOWN, error.code)


def shown_inputs(payload: Payload | None) -> Any:
    """The inputs as plain JSON data, at most 4 KiB: beyond it, sizes and beginnings."""
    if payload is None:
        return None
    try:
        if text_bytes(payload) > MAX_PARSED_BYTES:
            raise KitaruValueError(
                f"{len(payload.data):,} bytes: read them with result()", code="value-too-large"
            )
        tree = without_data(open_payload(payload, "the inputs"))
    except KitaruValueError as error:
        return {"(not shown)": str(error), "digest": payload.digest.hex()}
    return json.loads(preview(tree, MAX_SHOWN_BYTES))


def result_tree(payload: Payload, what: str) -> Any:
    """A recorded value as plain JSON data, with tags where it is more than that.

    Arrays, tables and images are shown by what they are and how large, without their data.
    """
    return without_data(open_payload(payload, what))


def _json(text: str | None) -> Any:
    if not text:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"(unreadable)": text[:200]}


def _mapping(text: str | None) -> dict[str, Any]:
    found = _json(text)
    if found is None:
        return {}
    return found if isinstance(found, dict) else {"(unreadable)": found}


def _tags(text: str) -> tuple[str, ...]:
    found = _json(text)
    return tuple(map(str, found)) if isinstance(found, list) else ()


# --- waits -------------------------------------------------------------------------------


def wait_digits(waits: Iterable[RecordedWait]) -> int:
    """How many hex digits tell these waits apart in their ids."""
    return id_digits(each.row.identity for each in waits)


def wait_id(exec_id: str, wait: RecordedWait, digits: int = ID_DIGITS) -> str:
    return f"{exec_id}:{wait.row.identity.hex()[:digits]}"


def pending_waits_of(row: ExecutionRow, waits: Sequence[RecordedWait]) -> list[PendingWait]:
    """What somebody may answer now, oldest first. ``waits``: all of the execution."""
    if row.status in FINISHED or row.status is State.CANCELLING:
        return []
    digits = wait_digits(waits)
    still_open = (each for each in waits if each.state is WaitState.OPEN)
    return [pending_wait_of(row.exec_id, row.flow_name, each, digits=digits) for each in still_open]


def pending_wait_of(
    exec_id: str, flow_name: str, wait: RecordedWait, *, digits: int = ID_DIGITS
) -> PendingWait:
    row = wait.row
    return PendingWait(
        wait_id=wait_id(exec_id, wait, digits),
        name=row.label,
        question=row.question,
        schema=None if row.schema is None else _mapping(row.schema),
        metadata=_mapping(row.metadata),
        entered_waiting_at=instant(row.opened_at),
        expires_at=_instant_or_none(row.expires_at),
        kind=row.kind.value,
        exec_id=exec_id,
        flow_name=flow_name,
    )


# --- calls ------------------------------------------------------------------------------


def calls_of(store: Store, row: ExecutionRow) -> list[CheckpointCall]:
    """The calls of an execution in the order in which they were made, each with its attempts."""
    attempts: dict[bytes, list[RecordedCall]] = {}
    for recorded in _recorded(store, row.id):
        attempts.setdefault(recorded.row.identity, []).append(recorded)
    digits = id_digits(attempts)
    saved = _saved(store, row.id, attempts)
    calls = [
        _call(store, row, rows, digits, saved.get(identity, ()))
        for identity, rows in attempts.items()
    ]
    calls.sort(key=lambda call: call.seq)
    return calls


def _recorded(store: Store, execution: int) -> Iterator[RecordedCall]:
    after = 0
    while page := store.list_calls(execution, after=after, limit=_PAGE):
        for recorded in page:
            failed = recorded.row.state is CallState.FAILED
            # Values are read when asked for: an execution may hold more than memory.
            yield recorded if failed else _without_value(recorded)
        after = page[-1].id


def _without_value(recorded: RecordedCall) -> RecordedCall:
    payload = recorded.row.payload
    return recorded._replace(
        row=recorded.row._replace(payload=Payload(payload.codec, b"", payload.digest))
    )


def _saved(
    store: Store, execution: int, attempts: Mapping[bytes, Sequence[RecordedCall]]
) -> dict[bytes, list[RecordedArtifact]]:
    """What each call saved; of one that was copied, what its source did."""
    found: dict[bytes, list[RecordedArtifact]] = {}
    for each in store.list_artifacts(execution, limit=_MAX_SAVED):
        found.setdefault(each.row.call, []).append(each)
    copied = (CallSource.REUSED, CallSource.CARRIED)
    if any(rows[-1].row.source in copied for rows in attempts.values()):
        for call, each in store.list_lent_artifacts(execution, limit=_MAX_SAVED):
            # The attempt counts where it was made; here it belongs to the copy.
            here = each._replace(row=each.row._replace(attempt=attempts[call][-1].row.attempt))
            found.setdefault(call, []).append(here)
    return found


def _call(
    store: Store,
    execution: ExecutionRow,
    rows: list[RecordedCall],
    digits: int,
    saved: Sequence[RecordedArtifact],
) -> CheckpointCall:
    last = rows[-1]
    row = last.row
    call_id = f"{execution.exec_id}:{row.identity.hex()[:digits]}"
    name = shown_name(row.checkpoint, execution.code_module)
    succeeded = row.state is CallState.COMPLETED
    source_exec_id, source_call_id = _source(last)
    parent = () if row.parent is None else (f"{execution.exec_id}:{row.parent.hex()[:digits]}",)
    return CheckpointCall(
        call_id=call_id,
        name=name,
        checkpoint_id=row.checkpoint,
        status=_call_status(last, execution),
        started_at=instant(rows[0].row.started_at),
        ended_at=instant(row.ended_at),
        metadata=_mapping(row.metadata),
        original_call_id=source_call_id,
        parent_call_ids=parent,
        failure=None if succeeded else failure_of(row.payload),
        attempts=tuple(_attempt(call_id, each.row) for each in rows),
        artifacts=_artifacts(store, call_id, name, last, saved),
        checkpoint_type=row.kind,
        seq=row.seq,
        branch=row.branch,
        source=row.source.value,
        reused_from=source_exec_id,
        # The first attempt asked for reuse; the later ones never do.
        reason=explain(rows[0].row.reason or row.reason),
        inputs=_json(row.inputs),
        _load=partial(_load, store, last.id, name) if succeeded else None,
        _changed=_changed(rows[0].row.reason),
        _recorded=rows[0],
    )


def _artifacts(
    store: Store,
    call_id: str,
    name: str,
    last: RecordedCall,
    saved: Sequence[RecordedArtifact],
) -> tuple[ArtifactRef, ...]:
    """What a call saved, in order, and what it returned."""
    found = [_saved_ref(store, call_id, each) for each in saved]
    row = last.row
    if row.state is CallState.COMPLETED:
        found.append(
            ArtifactRef(
                artifact_id=f"{call_id}#{row.attempt}",
                name=name,
                kind="result",
                save_type=None,
                producing_call=call_id,
                metadata=_mapping(row.metadata),
                created_at=instant(row.ended_at),
                attempt=row.attempt,
                **_reading(f"{call_id}#{row.attempt}", partial(store.load_payload, last.id)),
            )
        )
    return tuple(found)


def _saved_ref(store: Store, call_id: str, saved: RecordedArtifact) -> ArtifactRef:
    row = saved.row
    artifact_id = f"{call_id}#{row.attempt}/{row.name}"
    return ArtifactRef(
        artifact_id=artifact_id,
        name=row.name,
        kind="saved",
        save_type=row.save_type,
        producing_call=call_id,
        metadata={},
        tags=_tags(row.tags),
        created_at=instant(row.at),
        attempt=row.attempt,
        **_reading(artifact_id, partial(_saved_payload, store, saved.id, row.name)),
    )


def _reading(artifact_id: str, read: Callable[[], Payload]) -> dict[str, Any]:
    return {"_read": read, "_load": lambda: decode(read(), what=f"artifact {artifact_id}")}


def _saved_payload(store: Store, number: int, name: str) -> Payload:
    found = store.find_artifact(number)
    if found is None:
        raise KitaruNotFoundError(
            f"artifact {name!r} is not there any more: its execution was deleted; run it again",
            code="artifact-not-found",
        )
    return found.row.payload


def artifacts_of(store: Store, row: ExecutionRow) -> Iterator[ArtifactRef]:
    """All artifacts of an execution, in the order in which its calls were made."""
    return (artifact for call in calls_of(store, row) for artifact in call.artifacts)


def newest_of(artifacts: Iterable[ArtifactRef]) -> list[ArtifactRef]:
    """Of each call and name the newest: what an earlier try saved is superseded."""
    newest = {(each.producing_call, each.kind, each.name): each for each in artifacts}
    return list(newest.values())


def _call_status(last: RecordedCall, execution: ExecutionRow) -> str:
    if last.row.state is CallState.COMPLETED:
        return "completed"
    if last.reopened:
        return "reopened"
    waits = last.row.retry_at is not None and execution.status not in FINISHED
    return "backoff" if waits else "failed"


def _source(recorded: RecordedCall) -> tuple[str | None, str | None]:
    """(execution that it was reused from, call that it was copied from, reused or carried)."""
    reused = recorded.row.source is CallSource.REUSED
    if recorded.reused_from is not None:
        exec_id, _, identity = recorded.reused_from.partition(":")
        return exec_id if reused else None, f"{exec_id}:{identity[:ID_DIGITS]}"
    if reused:
        # Its source was deleted since; the reason still names it.
        found = _mapping(recorded.row.reason).get("source")
        return (found if isinstance(found, str) else None), None
    return None, None


def _changed(reason: str) -> tuple[str, ...]:
    details = _mapping(reason)
    lists = [details.get(kind) for kind in ("changed", "added", "removed")]
    return tuple(str(name) for names in lists if isinstance(names, list) for name in names)


def _attempt(call_id: str, row: CallRow) -> CheckpointAttempt:
    failed = row.state is CallState.FAILED
    return CheckpointAttempt(
        attempt_id=f"{call_id}#{row.attempt}",
        status=row.state.value,
        started_at=instant(row.started_at),
        ended_at=instant(row.ended_at),
        metadata=_mapping(row.metadata),
        failure=failure_of(row.payload) if failed else None,
    )


def _load(store: Store, call: int, name: str) -> Any:
    return decode(store.load_payload(call), what=name)
