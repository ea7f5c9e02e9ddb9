"""How far an execution has come, from its events: what the live view shows.

A pure model. Calls are gathered by checkpoint and by the checkpoints above it, so
that a hundred thousand mapped items are one group; it keeps single calls only while
they run, and so many groups at most. Instants are whatever clock the caller has.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator

from kitaru._engine.events import Event

MAX_GROUPS = 200
"""Checkpoints told apart; those that come later are counted together."""

OTHERS = "other checkpoints"

_LAST = sys.maxsize

_RATE_SECONDS = 5.0
_MAX_MARKS = 64


class Group:
    """The calls of one checkpoint below one place."""

    __slots__ = (
        "attempt",
        "below",
        "carried",
        "cut",
        "depth",
        "drift",
        "failed",
        "first_at",
        "last_at",
        "marks",
        "name",
        "not_started",
        "override",
        "ran",
        "recalled",
        "retrying",
        "reused",
        "running",
        "saved_seconds",
        "seq",
        "source",
        "spent_seconds",
        "submitted",
        "why",
    )

    def __init__(self, name: str, depth: int, now: float) -> None:
        self.name = name
        self.depth = depth
        self.below: dict[str, Group] = {}
        self.running: dict[str, float] = {}
        """Call -> when its body began."""
        self.retrying: dict[str, float] = {}
        """Call -> when it is tried again."""
        self.submitted = 0
        self.ran = self.recalled = self.reused = self.failed = self.not_started = self.cut = 0
        self.carried = self.override = 0
        self.attempt = 1
        self.spent_seconds = self.saved_seconds = 0.0
        self.first_at = self.last_at = now
        self.seq = _LAST
        """Of its first call: a reuse is heard of only when it is committed."""
        self.source = ""
        """Whose outcomes were reused, if all are of one execution."""
        self.why = ""
        """Of the last failure."""
        self.drift = ""
        self.marks: deque[tuple[float, int]] = deque([(now, 0)], maxlen=_MAX_MARKS)

    @property
    def done(self) -> int:
        taken = self.recalled + self.reused + self.carried + self.override
        return self.ran + taken + self.failed + self.not_started + self.cut

    @property
    def total(self) -> int:
        return max(self.submitted, self.done + len(self.running) + len(self.retrying))

    @property
    def is_active(self) -> bool:
        return bool(self.running or self.retrying) or self.done < self.submitted

    def began_at(self) -> float:
        """Since when it is at work: of a single call, its body."""
        if len(self.running) == 1 and self.total == 1:
            return next(iter(self.running.values()))
        return self.first_at

    def mark(self, now: float) -> None:
        """Remember how far it is: a rate is measured between such moments."""
        self.marks.append((now, self.done))
        while len(self.marks) > 2 and self.marks[1][0] < now - _RATE_SECONDS:
            self.marks.popleft()

    def rate(self, now: float) -> float:
        """Calls a second over the last few seconds."""
        at, done = self.marks[0]
        return (self.done - done) / (now - at) if now > at else 0.0


class Totals:
    """What the whole execution came to in this process, its tries together."""

    __slots__ = (
        "carried",
        "drifted",
        "failed",
        "not_started",
        "override",
        "ran",
        "recalled",
        "reused",
        "saved_seconds",
    )

    def __init__(self) -> None:
        self.ran = self.recalled = self.reused = self.failed = 0
        self.carried = self.override = self.not_started = self.drifted = 0
        self.saved_seconds = 0.0


class Progress:
    """The state that events lead to. Not safe for threads by itself."""

    def __init__(self, now: float) -> None:
        self.began_at = now
        self.totals = Totals()
        self.attempt = 1
        self.heard = 0
        """How many events."""
        self.ended: str | None = None
        """``completed``, ``failed``, ``handed back`` … once it has."""
        self.waits_for: str | None = None
        """What it is parked for, in words."""
        self.waits_since = now
        self.stopping: str | None = None
        """Who cancelled it, and why, while its code has not stopped."""
        self._shown: set[Group] = set()
        """Of the lives before it parked: what is recalled of them was shown then."""
        self._forget_calls()

    def _forget_calls(self) -> None:
        self.top = Group("", -1, self.began_at)
        self._count = 0
        self._children: dict[str, Group] = {}
        """Executions that this one started -> their groups: what they call is below these."""
        self._where: dict[str, Group] = {}
        """Calls whose bodies run -> their groups: below these, others may be called."""

    def groups(self) -> Iterator[Group]:
        """Each below the one it was called from, in the order in which they were called."""
        todo = _last_first(self.top)
        while todo:
            group = todo.pop()
            yield group
            todo += _last_first(group)

    def add(self, event: Event, now: float, *, of_child: bool = False) -> Group | None:
        """Take an event in -> the group that it made, if it is a new one.

        ``of_child``: it is one of an execution that this one, or a child of it, started.
        """
        kind, _, what = event.name.partition(".")
        if event.name != "execution.queued":  # whoever claims it may be another process
            self.heard += 1
        before = self._count
        if kind == "execution":
            if not of_child:
                self._execution(what, event, now)
                return None
            group = self._child(what, event, now)
            return group if self._count > before else None
        group = self._group_of(event, now)
        group.last_at = now
        if event.seq is not None and event.seq < group.seq:
            group.seq = event.seq
        _APPLY[event.name](self, group, event, now)
        return group if self._count > before else None

    def mark(self, now: float) -> None:
        """Remember how far it is at this moment: rates are measured between such."""
        for group in self.groups():
            if group.is_active:
                group.mark(now)

    def end(self, word: str | None) -> None:
        """Nothing more is heard, whatever runs still."""
        self.ended = self.ended or word or "interrupted"

    def _execution(self, what: str, event: Event, now: float) -> None:
        if what == "cancelling":
            self.stopping = event.reason or "cancelled"
            return
        if what == "waiting":
            self.waits_for, self.waits_since = event.reason or "waits", now
            return
        if what != "queued" and self.waits_for is not None:
            self.waits_for = None
            self._call_again()
        if what == "retrying":
            self.attempt = (event.attempt or 1) + 1
            self._forget_calls()
        elif what in ("started", "claimed", "taken_over"):
            self.attempt = event.attempt or 1
            self.ended = None
        elif what != "queued":
            self.ended = what.replace("_", " ")

    def _call_again(self) -> None:
        """The flow runs from its top: it calls again what it had called."""
        for group in self.groups():
            self._shown.add(group)
            group.submitted = 0
            group.running.clear()
            group.retrying.clear()

    def _child(self, what: str, event: Event, now: float) -> Group:
        """What becomes of an execution that this one started: counted like a call, by its flow."""
        group = self._children.get(event.exec_id)
        if group is None:
            above = self._where.get(event.parent_call_id or "")
            above = above or self._children.get(event.parent_exec_id or "", self.top)
            group = self._children[event.exec_id] = self._group(above, f"flow {event.flow}", now)
        group.last_at = now
        began_at = group.running.pop(event.exec_id, now)
        if what in _CHILD_ENDS:
            setattr(group, _CHILD_ENDS[what], getattr(group, _CHILD_ENDS[what]) + 1)
            group.spent_seconds += now - began_at
            group.why = (event.reason or "") if what == "failed" else group.why
        else:
            if what == "retrying" and group.failed:
                group.failed -= 1
            group.running[event.exec_id] = began_at
            group.attempt = max(group.attempt, event.attempt or 1)
        return group

    def _group_of(self, event: Event, now: float) -> Group:
        above = self._where.get(event.parent_call_id or "")
        above = above or self._children.get(event.exec_id, self.top)
        return self._group(above, event.checkpoint or "", now)

    def _group(self, above: Group, name: str, now: float) -> Group:
        group = above.below.get(name)
        if group is None:
            if self._count >= MAX_GROUPS:
                name = OTHERS
                group = above.below.get(name) or self.top.below.get(name)
                if group is not None:
                    return group
                above = self.top
            group = above.below[name] = Group(name, above.depth + 1, now)
            self._count += 1
        return group

    # --- what happens to calls ------------------------------------------------------------

    def _submitted(self, group: Group, event: Event, now: float) -> None:
        group.submitted += event.calls or 0

    def _started(self, group: Group, event: Event, now: float) -> None:
        call = event.call_id or ""
        group.retrying.pop(call, None)
        group.running[call] = now
        group.attempt = max(group.attempt, event.attempt or 1)
        self._where[call] = group

    def _left(self, group: Group, event: Event) -> None:
        call = event.call_id or ""
        group.running.pop(call, None)
        group.retrying.pop(call, None)
        self._where.pop(call, None)

    def _recalled(self, group: Group, event: Event, now: float) -> None:
        if group in self._shown:
            return
        group.recalled += 1
        self.totals.recalled += 1
        self._saved(group, event)

    def _reused(self, group: Group, event: Event, now: float) -> None:
        group.reused += 1
        self.totals.reused += 1
        source = event.reason or ""
        group.source = source if group.reused == 1 or source == group.source else ""
        self._saved(group, event)

    def _carried(self, group: Group, event: Event, now: float) -> None:
        group.carried += 1
        self.totals.carried += 1
        self._saved(group, event)

    def _overridden(self, group: Group, event: Event, now: float) -> None:
        group.override += 1
        self.totals.override += 1

    def _saved(self, group: Group, event: Event) -> None:
        group.saved_seconds += event.seconds or 0.0
        self.totals.saved_seconds += event.seconds or 0.0

    def _completed(self, group: Group, event: Event, now: float) -> None:
        self._left(group, event)
        group.ran += 1
        self.totals.ran += 1
        group.spent_seconds += event.seconds or 0.0

    def _failed(self, group: Group, event: Event, now: float) -> None:
        self._left(group, event)
        group.failed += 1
        self.totals.failed += 1
        group.spent_seconds += event.seconds or 0.0
        group.why = event.reason or ""

    def _retrying(self, group: Group, event: Event, now: float) -> None:
        self._left(group, event)
        group.retrying[event.call_id or ""] = now + (event.delay_seconds or 0.0)
        group.attempt = max(group.attempt, (event.attempt or 1) + 1)
        group.why = event.reason or ""

    def _abandoned(self, group: Group, event: Event, now: float) -> None:
        self._left(group, event)
        group.cut += 1

    def _drifted(self, group: Group, event: Event, now: float) -> None:
        self.totals.drifted += 1
        group.drift = event.reason or ""

    def _not_started(self, group: Group, event: Event, now: float) -> None:
        group.not_started += event.calls or 0
        self.totals.not_started += event.calls or 0


_CHILD_ENDS = {"completed": "ran", "failed": "failed", "cancelled": "cut", "lost": "cut",
               "handed_back": "cut"}  # fmt: skip
"""What became of a child -> what it is counted as."""


def _last_first(group: Group) -> list[Group]:
    return sorted(group.below.values(), key=lambda each: each.seq)[::-1]


_APPLY = {
    "calls.submitted": Progress._submitted,
    "call.started": Progress._started,
    "call.recalled": Progress._recalled,
    "call.reused": Progress._reused,
    "call.carried": Progress._carried,
    "call.overridden": Progress._overridden,
    "call.completed": Progress._completed,
    "call.failed": Progress._failed,
    "call.retrying": Progress._retrying,
    "call.abandoned": Progress._abandoned,
    "call.drifted": Progress._drifted,
    "calls.not_started": Progress._not_started,
}
