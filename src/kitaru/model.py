"""The frozen records that Kitaru shows: executions, calls, attempts, failures.

Plain data without behaviour of their own beyond a few derived properties; what
loads them and what acts on them lives in ``client.py``. All times are aware
UTC datetimes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kitaru.errors import FailureOrigin
from kitaru.status import ExecutionStatus


@dataclass(frozen=True, slots=True)
class FailureInfo:
    """Why something failed, as it was recorded."""

    message: str
    exception_type: str
    traceback: str
    origin: FailureOrigin
    code: str | None = None
    """What ``kitaru explain`` takes: of the recorded error, or of failures of its origin."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something about an execution that a person should know: a drift, a takeover."""

    kind: str
    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class PendingWait:
    """A wait that nobody has answered yet.

    ``name`` is its name, or what an unnamed one is called: ``wait_condition:0``. ``schema`` is
    the JSON Schema of the answer; None: it only asks whether to go on. ``kind`` is ``input``, or
    ``decision`` where it asks what is to become of a call.
    """

    wait_id: str
    name: str
    question: str | None
    schema: Mapping[str, Any] | None
    metadata: Mapping[str, Any]
    entered_waiting_at: datetime
    expires_at: datetime | None = None
    kind: str = "input"
    exec_id: str = ""
    flow_name: str = ""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line that the code of an execution printed, or one record that it logged.

    ``source`` is ``stdout``, ``stderr`` or ``logging``; ``runner`` for what Kitaru says of the
    log itself, where a part of it is missing. A printed line counts as INFO, on stderr as WARNING.
    """

    message: str
    level: str | None
    timestamp: datetime
    """When the line was finished."""
    source: str
    checkpoint_name: str | None
    """None: the flow itself."""
    module: str | None
    filename: str | None
    lineno: int | None
    call_id: str | None = None
    attempt: int = 1
    """Of the call; of the execution in the flow itself."""
    logger: str | None = None


@dataclass(frozen=True, slots=True)
class CheckpointAttempt:
    """One try of a call."""

    attempt_id: str
    status: str
    started_at: datetime
    ended_at: datetime | None
    metadata: Mapping[str, Any]
    failure: FailureInfo | None


@dataclass(frozen=True, slots=True)
class ArtifactRef:
    """A value that a checkpoint saved by name, or returned; ``load()`` reads it.

    ``kind`` is ``saved`` (with its ``save_type``) or ``result``; the name of a result is
    that of the checkpoint. ``producing_call`` is the call in this execution.
    """

    artifact_id: str
    name: str
    kind: str
    save_type: str | None
    producing_call: str | None
    metadata: Mapping[str, Any]
    """Of a result: what its call logged."""
    tags: tuple[str, ...] = ()
    created_at: datetime | None = None
    attempt: int = 1
    """Which try of the call made it."""
    _read: Any = field(default=None, repr=False, compare=False)
    """Its payload, and its value: read when asked for."""
    _load: Any = field(default=None, repr=False, compare=False)

    def load(self) -> Any:
        """The value, read and decoded now; ``KitaruValueError`` if it cannot be read back."""
        return self._load()


@dataclass(frozen=True, slots=True)
class CheckpointCall:
    """One call of a checkpoint in an execution, with its attempts.

    ``status`` is ``completed``, ``failed``, ``backoff`` (it failed and is tried
    again later) or ``reopened`` (a retry of the execution runs it again).
    ``source`` says where the outcome came from: ``ran``, ``recalled``,
    ``reused``, ``carried`` (a replay kept it) or ``override`` (a replay was
    given it); ``reason`` says why in words.
    ``inputs`` is a preview of at most 4 KiB.
    """

    call_id: str
    name: str
    checkpoint_id: str
    """What identifies the checkpoint: its ``name=``, else module and qualified name."""
    status: str
    started_at: datetime
    ended_at: datetime | None
    metadata: Mapping[str, Any]
    original_call_id: str | None
    parent_call_ids: tuple[str, ...]
    failure: FailureInfo | None
    attempts: tuple[CheckpointAttempt, ...]
    artifacts: tuple[ArtifactRef, ...]
    checkpoint_type: str | None
    seq: int
    branch: str
    source: str
    reused_from: str | None
    reason: str
    inputs: Any
    _load: Callable[[], Any] | None = field(default=None, repr=False, compare=False)
    _changed: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """The arguments or functions that the recorded reason names."""
    _recorded: Any = field(default=None, repr=False, compare=False)
    """The row of the first attempt: it asked for reuse, the later ones never do."""

    def result(self) -> Any:
        """The call's recorded result, decoded now.

        Raises ``KitaruStateError`` if it did not succeed and
        ``KitaruValueError`` if the value cannot be read back.
        """
        from kitaru.errors import KitaruStateError

        if self._load is None:
            raise KitaruStateError(
                f"call {self.call_id} of checkpoint {self.name!r} is {self.status}: "
                "it has no result; see its `failure`",
                code="no-result",
            )
        return self._load()


@dataclass(frozen=True, slots=True)
class Difference:
    """An argument, or a part of the code, that is not what was recorded before.

    ``kind`` is ``argument`` or ``code``. ``before`` and ``after`` are texts to
    compare: the argument's preview as JSON, the part's source without comments
    and formatting; None where it was not there, or where ``note`` says why there
    is none.
    """

    kind: str
    name: str
    before: str | None
    after: str | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Why:
    """Why a call ran, or whose outcome it reused; printed, it is a line for people.

    ``changed`` are the arguments or functions that differ from what was
    recorded before, where that is the reason; ``differences`` show how, against
    what execution ``compared_with`` recorded. ``unseen`` is what the code
    fingerprint cannot see; None where nobody knows it.
    """

    call_id: str
    name: str
    seq: int
    status: str
    source: str
    reason: str
    reused_from: str | None
    original_call_id: str | None
    changed: tuple[str, ...]
    unseen: tuple[str, ...] | None
    differences: tuple[Difference, ...] = ()
    compared_with: str | None = None

    def __str__(self) -> str:
        """One line, and one more for what the fingerprint cannot see.

        >>> print(Why("e:1", "draft", 0, "completed", "ran", "never recorded", None, None, (), ()))
        #0 draft: ran: never recorded
        """
        why = f": {self.reason}" if self.reason else ""
        if self.source == "reused" and self.reused_from and self.reused_from in self.reason:
            why = f" from {self.original_call_id or self.reused_from}"
        if self.source == "carried":
            why = self.reason.removeprefix("carried")
        line = f"#{self.seq} {self.name}: {self.source}{why}"
        if self.unseen:
            line += (
                f"\n   its code fingerprint cannot see: {'; '.join(self.unseen)} "
                "(version= on the checkpoint decides instead)"
            )
        return line


@dataclass(frozen=True, slots=True)
class MemoryEntry:
    """A version of a key of durable memory; ``load()`` reads its value.

    ``deleted`` marks the tombstone that a delete leaves. ``exec_id`` is the execution
    that wrote it; None: a program or a person outside of any.
    """

    key: str
    version: int
    scope_type: str
    scope: str
    written_at: datetime
    exec_id: str | None
    deleted: bool
    _read: Any = field(default=None, repr=False, compare=False)
    """Its payload, and its value: read when asked for."""
    _load: Any = field(default=None, repr=False, compare=False)

    def load(self) -> Any:
        """The value, read and decoded now; None of a tombstone."""
        return None if self.deleted else self._load()


@dataclass(frozen=True, slots=True)
class MemoryScope:
    """Whose memory: a namespace's, a flow's (its id) or an execution's."""

    scope_type: str
    scope: str


@dataclass(frozen=True, slots=True)
class FlowSchedule:
    """When a flow starts by itself, and what stands in the way.

    ``state`` is ``active``, ``paused`` (by a person), ``dropped`` (the code has the flow without
    a schedule now) or ``unserved`` (no live worker has the flow); ``reason`` says more.
    ``due_at`` is the next fire time, ``fired_at`` the last one for which an execution was
    started, and ``skipped`` how many were left out so far, as ``missed`` says.
    """

    flow_id: str
    flow_name: str
    cron: str
    timezone: str
    missed: str
    state: str
    reason: str | None
    due_at: datetime | None
    fired_at: datetime | None
    fired_exec_id: str | None
    skipped: int


@dataclass(frozen=True, slots=True)
class Execution:
    """One life of a flow, as it was when it was read; ``refresh()`` reads it again."""

    exec_id: str
    flow_id: str
    flow_name: str
    status: ExecutionStatus
    status_reason: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    metadata: Mapping[str, Any]
    failure: FailureInfo | None
    pending_wait: PendingWait | None
    original_exec_id: str | None
    parent_exec_id: str | None
    tags: tuple[str, ...]
    key: str | None
    attempts: int
    notes: tuple[Note, ...]
    inputs: Any
    frozen_execution_spec: Mapping[str, Any]
    queue: str = "default"
    priority: int = 0
    """Of what is queued the higher ones are claimed first."""
    limit_key: str | None = None
    """What it shares a limit with, beside its queue."""
    due_at: datetime | None = None
    """When it goes on by itself: delayed, or waiting until an hour."""
    _client: Any = field(default=None, repr=False, compare=False)

    @property
    def scheduled_at(self) -> datetime | None:
        """The fire time for which a schedule started it; None: somebody else did."""
        fired = self.frozen_execution_spec.get("schedule")
        return None if fired is None else datetime.fromtimestamp(fired["at"] / 1e6, UTC)

    @property
    def checkpoints(self) -> tuple[CheckpointCall, ...]:
        """The recorded calls in the order in which they were made."""
        return tuple(self._client.list_checkpoints(self.exec_id))

    @property
    def artifacts(self) -> tuple[ArtifactRef, ...]:
        """What its checkpoints saved and returned, in the order in which they were called."""
        return tuple(self._client.list_artifacts(self.exec_id))

    def list_checkpoints(self) -> list[CheckpointCall]:
        """The same as ``checkpoints``, as a list."""
        return list(self.checkpoints)

    def list_children(self) -> list[Execution]:
        """The executions that were started inside it, oldest first; at most 100."""
        found: list[Execution] = self._client.list_children(self.exec_id)
        return found

    def list_artifacts(self) -> list[ArtifactRef]:
        """The same as ``artifacts``, as a list."""
        return list(self.artifacts)

    def result(self) -> Any:
        """What the flow returned, or a typed error; never waits."""
        return self._client.handle(self.exec_id).get()

    def refresh(self) -> Execution:
        """The execution as it is now."""
        refreshed: Execution = self._client.get(self.exec_id)
        return refreshed

    def retry(self) -> Any:
        """Run it again in this process if it failed -> its handle; see ``executions.retry``."""
        return self._client.retry(self.exec_id)

    def resume(self) -> Any:
        """Go on with it in this process -> its handle; see ``executions.resume``."""
        return self._client.resume(self.exec_id)

    def cancel(self, *, reason: str | None = None) -> Execution:
        """Cancel it and its children -> how it stands then; see ``executions.cancel``."""
        cancelled: Execution = self._client.cancel(self.exec_id, reason=reason)
        return cancelled

    def replay(self, **options: Any) -> Any:
        """Make a new execution from it -> its handle; see ``executions.replay``."""
        return self._client.replay(self.exec_id, **options)
