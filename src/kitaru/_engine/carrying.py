"""A replay while it runs: which outcome of its source each call keeps, or was given.

The rules are in ``_core/replaying.py``; here they meet the calls as they are made, by
what was decided when the replay was made (``replay_spec.py``). A source is read and
never written.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from kitaru._core import reuse as words
from kitaru._core.drift import differing_arguments
from kitaru._core.identity import asked_identity, call_identity, named_identity
from kitaru._core.lifecycle import CallSource, CallState, State
from kitaru._core.payload import Payload
from kitaru._core.replaying import History, Kept, Span, Where, same_maps
from kitaru._engine.replay_spec import ReplaySpec
from kitaru._engine.window import Window
from kitaru._store.protocol import (
    CallRow,
    ExecutionRow,
    LearntRow,
    PastCall,
    Store,
    WaitRow,
)
from kitaru.errors import (
    FailureOrigin,
    KitaruDivergenceError,
    KitaruError,
    KitaruStateError,
    KitaruValueError,
)

if TYPE_CHECKING:
    from kitaru._engine.call import Call, CheckpointSpec
    from kitaru._engine.children import Child
    from kitaru._engine.context import Attempt
    from kitaru._engine.run import Run

_PAGE = 500

MAP, REACHED, GIVEN, CHILD = "map", "reached", "given", "child"
_OF_ONE_EXECUTION = frozenset({MAP, REACHED, GIVEN, CHILD})
"""Kinds of learnt facts that a replay does not take over."""

UNREADABLE = "unreadable"


class Carried(NamedTuple):
    """An outcome that a call takes over: from the source (``id``), or given."""

    source: CallSource
    state: CallState
    payload: Payload
    reason: str
    id: int | None = None
    attempt: int = 1
    metadata: str | None = None
    code: bytes | None = None
    """The version of the code that made it."""
    seconds: float = 0.0
    """How long its body took where it ran."""
    rows: tuple[CallRow, ...] = ()
    """What else comes along: its earlier attempts, and what was called in any of them."""


class Past:
    """The source as a running replay sees it. Its lock guards what was met and taken."""

    def __init__(self, run: Run, spec: ReplaySpec) -> None:
        self.spec = spec
        self._run = run
        self._store: Store = run.store
        past = self._store.list_past(spec.row, upto=spec.upto) if self._is_there() else None
        self._gone = past is None
        history = History(past or (), failed=spec.failed)
        named = spec.named if spec.named in history.attempts else None
        self._kept: Kept[PastCall] = Kept(history, named=named, overridden=spec.calls)
        self._history = history
        self._window = Window(self._store, spec.row, [each.id for each in past or ()])
        self._by_place = bool(spec.changed) and spec.named is not None
        self._lock = threading.Lock()
        self._stands_for: dict[bytes, bytes] = {}
        """Calls that are not those of the source, but stand at their places."""
        self._maps: dict[Where, list[Span]] = {}
        self._maps_there: dict[Where, list[Span]] = {}
        self._copied: set[bytes] = set()
        self._waits: set[bytes] | None = None
        self.failures: set[bytes] = set()
        """Calls of this execution whose failures were taken over."""
        self.facts = [] if self._gone else self._facts()
        """What the source had learnt up to the point from which the replay runs anew."""

    def _is_there(self) -> bool:
        try:
            found = self._store.find_execution(self.spec.source)
        except KitaruValueError:
            return True  # its inputs or result are damaged, which nobody needs
        return found is not None and found.id == self.spec.row

    def begin(self) -> None:
        """The flow starts from its top."""
        with self._lock:
            self._maps.clear()

    # --- what the execution has learnt ------------------------------------------------------

    def _facts(self) -> list[LearntRow]:
        until = self._kept.starts_at()
        found = []
        for fact in self._store.load_learnt(self.spec.row):
            if fact.kind == MAP:
                self._remember_map(fact)
            if fact.kind in _OF_ONE_EXECUTION:
                continue
            at = _learnt_at(fact)
            if until is None or at is None or at <= until:
                found.append(fact)
        return found

    # --- children -------------------------------------------------------------------------------

    def child(self, child: Child) -> ExecutionRow | None:
        """The child that the source had by this name, if it was over when the named call started.

        One that was cancelled is none: what it was to do is still to be done.
        """
        if self._gone:
            self._run.stopped_by = self._run.stopped_by or self._source_gone()
            raise self._run.stopped_by
        for identity in (child.identity, *child.former):
            row = self._store.find_child(self.spec.source, identity)
            if row is not None and row.status in (State.COMPLETED, State.FAILED):
                until, ended_at = self._kept.starts_at(), row.ended_at
                if until is None or (ended_at is not None and ended_at <= until):
                    return row
        return None

    # --- waits ----------------------------------------------------------------------------------

    def answer_to(self, wait: WaitRow) -> Payload | None:
        """The answer that was given for this wait: it is that of the source, or bears its label.

        By its label only where the source asked nothing like it: what an unnamed wait says
        may hold a result that is another one now.
        """
        spec = self.spec
        if not spec.waits:
            return None
        identity = wait.identity
        if identity not in spec.waits:
            if identity in self._waits_there():
                return None
            same = [each for each, given in spec.waits.items() if given[1] == wait.label]
            if len(same) != 1 or same[0] in self._run.learnt:
                return None
            (identity,) = same
        self._learn(identity, GIVEN)
        return spec.waits[identity][2]

    def _waits_there(self) -> set[bytes]:
        if self._waits is None:
            self._waits = {each.row.identity for each in self._store.list_waits(self.spec.row)}
        return self._waits

    # --- maps -----------------------------------------------------------------------------------

    def _remember_map(self, fact: LearntRow) -> None:
        data = json.loads(fact.value)
        parent = None if data["parent"] is None else bytes.fromhex(data["parent"])
        where = (parent, data["attempt"], data["branch"], data["checkpoint"])
        self._maps_there.setdefault(where, []).append(Span(data["first"], data["length"]))

    def note_map(self, parent: Attempt, branch: str, checkpoint: str, span: Span) -> None:
        """A map is about to begin here: its items may be told by place if it is as long there."""
        with self._lock:
            where = (self._parent_there(parent), parent.number, branch, checkpoint)
            self._maps.setdefault(where, []).append(span)

    # --- calls ------------------------------------------------------------------------------------

    def keeps(self, call: Call) -> bool:
        """Whether the call will come to something without running."""
        if call.identity in self._run.outcomes:
            return True
        there = self._identities_there(call)[0]
        return there in self.spec.calls or self._kept.outcome(there) is not None

    def take(self, call: Call) -> Carried | None:
        """What this call keeps of the source or was given; None, with a reason, if it is to run."""
        if self._gone:
            raise self._stop(call, self._source_gone())
        with self._lock:
            there, by_place = self._find(call)
            if there is not None and there == self.spec.named:
                self._learn(there, REACHED)
            if there in self.spec.calls:
                assert there is not None
                return self._given(there)
            found = None if there is None else self._kept.outcome(there)
            if found is None or (by_place and not self._by_place):
                call.inputs_reason = self._why_anew(call, there, by_place)
                return None
        try:
            return self._carried(call, found, by_place)
        except KitaruValueError as error:
            raise self._stop(call, error) from None

    def earlier(self, call: Call) -> tuple[int, tuple[CallRow, ...]]:
        """The attempt with which a call that runs anew begins, and what stays of those before."""
        with self._lock:
            there, _ = self._find(call)
            attempts = [] if there is None else self._kept.first_attempts(there)
        if not attempts:
            return 1, ()
        assert there is not None
        last = attempts[-1].attempt
        below = self._history.below(there, before=last + 1)
        return last + 1, self._rows(call, there, [*attempts, *below])

    def _given(self, there: bytes) -> Carried:
        key, payload = self.spec.calls[there]
        self._learn(there, GIVEN)
        return Carried(CallSource.OVERRIDE, CallState.COMPLETED, payload, words.overridden(key))

    def _carried(self, call: Call, found: PastCall, by_place: bool) -> Carried:
        differing = None
        if by_place:
            arguments = call.inputs.arguments_json()
            differing = tuple(differing_arguments(found.arguments, arguments))
        try:
            payload = self._window.payload_of(found.id)
        except KeyError:
            raise self._stop(call, self._source_gone()) from None
        attempts = self._history.attempts[found.identity]
        below = self._history.below(found.identity)
        rows: tuple[CallRow, ...] = ()
        if below or len(attempts) > 1:
            rows = self._rows(call, found.identity, [*attempts[:-1], *below])
        if found.state is CallState.FAILED:
            self.failures.add(call.identity)
        return Carried(
            CallSource.CARRIED,
            found.state,
            payload,
            words.carried(self.spec.source, differing),
            found.id,
            found.attempt,
            found.metadata,
            found.code,
            (found.ended_at - found.started_at) / 1e6,
            rows,
        )

    # --- which call of the source a call is -----------------------------------------------------

    def _find(self, call: Call) -> tuple[bytes | None, bool]:
        """(the call of the source, whether only by its place); a former name counts too."""
        for identity in self._identities_there(call):
            if identity in self._history.attempts:
                return identity, False
        there = self._at_its_place(call)
        if there is None:
            return None, False
        meant = there == self.spec.named or there in self.spec.calls or self._kept.holds(there)
        if meant or self._by_place:
            # What is called in it is looked for below that one.
            self._stands_for[call.identity] = there
        return there, True

    def _at_its_place(self, call: Call) -> bytes | None:
        parent = self._parent_there(call.parent)
        for checkpoint in (call.spec.id, *call.spec.aliases):
            where = (parent, call.parent.number, call.branch.label, checkpoint)
            here, there = self._maps.get(where, []), self._maps_there.get(where, [])
            if same_maps(here, there, call.number):
                found = self._history.at(where, call.number)
                if found is not None:
                    return found
        return None

    def _parent_there(self, parent: Attempt) -> bytes | None:
        if parent.identity is None:
            return None
        return self._stands_for.get(parent.identity, parent.identity)

    def _identities_there(self, call: Call) -> list[bytes]:
        """What the call's identity is in the source, under each name of its checkpoint."""
        parent = self._parent_there(call.parent)
        if parent == call.parent.identity:
            return [call.identity, *(call.alias_identities() if call.spec.aliases else ())]
        number = call.parent.number
        if call.named is not None:
            return [
                named_identity(parent, number, name, call.named)
                for name in (call.spec.id, *call.spec.aliases)
            ]
        return [
            call_identity(parent, number, call.branch.digest, name, call.inputs.digest, call.n)
            for name in (call.spec.id, *call.spec.aliases)
        ]

    # --- copies -----------------------------------------------------------------------------------

    def _rows(self, call: Call, there: bytes, wanted: Iterable[PastCall]) -> tuple[CallRow, ...]:
        """Attempts of the source as rows of this execution, each with its own copy of the value."""
        run = self._run
        ids = {each.id: each for each in wanted}
        now = run.env.now()
        full = list(self._read(ids))
        numbers = {
            each.id: call.seq if each.identity == there else next(run.seq)
            for each in sorted(ids.values(), key=lambda each: (each.seq, each.id))
        }
        rows = []
        for number, row in full:
            if row.identity != there and self._is_recorded(row.identity, row.attempt):
                continue
            retry_at = row.retry_at
            if row.state is CallState.FAILED and (ids[number].reopened or row.identity == there):
                retry_at = now  # it was tried again, and is no outcome
            rows.append(
                row._replace(
                    identity=call.identity if row.identity == there else row.identity,
                    parent=call.identity if row.parent == there else row.parent,
                    source=CallSource.CARRIED,
                    seq=numbers[number],
                    reuse_key=None,
                    reused_from=number,
                    reason=words.carried(self.spec.source),
                    retry_at=retry_at,
                    started_at=now,
                    ended_at=now,
                )
            )
        return tuple(rows)

    def _is_recorded(self, identity: bytes, attempt: int) -> bool:
        """Whether this execution has the attempt already: two calls may stand for one."""
        with self._lock:
            key = identity + attempt.to_bytes(4, "big")
            known = key in self._copied or identity in self._run.outcomes
            self._copied.add(key)
        return known

    def _read(self, ids: Mapping[int, PastCall]) -> Iterable[tuple[int, CallRow]]:
        after, last = min(ids) - 1, max(ids)
        while after < last:
            page = self._store.list_calls(self.spec.row, after=after, limit=_PAGE)
            if not page:
                return
            for recorded in page:
                if recorded.id in ids:
                    if recorded.row.payload.codec == UNREADABLE:
                        self._store.load_payload(recorded.id)  # says what is wrong
                    yield recorded.id, recorded.row
            after = page[-1].id

    # --- what becomes of it -----------------------------------------------------------------------

    def _learn(self, identity: bytes, kind: str) -> None:
        """Remember for later lives too, in which what was recorded may hide the call."""
        run = self._run
        if identity not in run.learnt:
            run.learnt[identity] = kind
            run.queue(LearntRow(identity, kind, kind))

    def _why_anew(self, call: Call, there: bytes | None, by_place: bool) -> str:
        source, spec = self.spec.source, self.spec
        if there is None:
            return words.ran_anew("new", source)
        if there == spec.named:
            return words.ran_anew("from", source)
        if self._kept.holds(there):
            return words.ran_anew("holds", source, spec.from_ or _first(spec.calls))
        if by_place:
            past = self._history.attempts[there][0]
            arguments = call.inputs.arguments_json()
            differing = differing_arguments(past.arguments, arguments)
            return words.changed_since(source, tuple(differing) or ("the order of equal calls",))
        if self._history.outcome(there) is None:
            return words.ran_anew("open", source)
        return words.ran_anew("after", source, spec.from_ or "")

    def _stop(self, call: Call, error: KitaruError) -> KitaruError:
        """Nothing new starts on top of what cannot be taken over, whatever the flow makes of it."""
        if isinstance(error, KitaruValueError):
            error.checkpoint = error.checkpoint or call.spec.name
        self._run.stopped_by = self._run.stopped_by or error
        return self._run.stopped_by

    def _source_gone(self) -> KitaruStateError:
        return KitaruStateError(
            f"execution {self._run.exec_id} is a replay of {self.spec.source}, which was deleted "
            "before all that it keeps was taken over: run the flow anew, or restore the store "
            "from a backup and retry",
            code="replay-source-gone",
        )

    def judge(self) -> KitaruDivergenceError | None:
        """What is to be said when the flow has returned: was the named call reached at all?

        An override that nobody asked for is noted.
        """
        run, spec = self._run, self.spec
        given = {
            identity: key for identity, (key, *_) in (*spec.calls.items(), *spec.waits.items())
        }
        for identity, key in given.items():
            if identity not in run.learnt:
                message = (
                    f"override {key!r} was not used: the replay did not come to it. What it would "
                    "have changed is not changed"
                )
                run.note("replay", message)
                run.services.say(f"execution {run.exec_id}: {message}")
        if spec.named is None or spec.named in run.learnt:
            return None
        return KitaruDivergenceError(
            f"the replay of {spec.source} from {spec.from_!r} never came to that call: today's "
            "code does not make it with these inputs. What it recorded is kept; mend the code and "
            "replay again, or replay from a call that is made: "
            f"kitaru executions plan {spec.source} --for replay",
            exec_id=run.exec_id,
            failure_origin=FailureOrigin.DIVERGENCE,
            code="replay-point-not-reached",
        )


def _first(calls: Mapping[bytes, tuple[str, Payload]]) -> str:
    return next((key.partition(".")[2] for key, _ in calls.values()), "")


def _learnt_at(fact: LearntRow) -> int | None:
    """When it was asked, as far as the fact says; None: nobody knows."""
    try:
        found = json.loads(fact.value)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict):
        found = found.get("at")
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def map_fact(parent: Attempt, branch: Any, spec: CheckpointSpec, span: Span) -> LearntRow:
    """That a map began here, and how long it is: what a replay by place hangs on."""
    identity = asked_identity(
        parent.identity, parent.number, branch.digest, MAP, spec.id, span.first
    )
    data = {
        "parent": None if parent.identity is None else parent.identity.hex(),
        "attempt": parent.number,
        "branch": branch.label,
        "checkpoint": spec.id,
        "first": span.first,
        "length": span.length,
    }
    return LearntRow(identity, MAP, json.dumps(data, separators=(",", ":")))
