"""What a resume, retry or replay would do with what an execution recorded, before anything runs.

Reads what is recorded, and the code that this process has loaded; runs none of it. What the
flow's own code would call anew cannot be known, and is said to be unknown. Knows
nothing of terminals.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from kitaru._core.binding import Binder
from kitaru._core.costs import costs_of, summed
from kitaru._core.identity import id_digits
from kitaru._core.inputs import digest_inputs
from kitaru._core.lifecycle import FINISHED, CallState, State, WaitState
from kitaru._core.names import did_you_mean, shortened
from kitaru._core.naming import shown_name
from kitaru._core.replaying import History, Kept
from kitaru._core.values import decode, encode
from kitaru._engine.fingerprint import code_digest, fingerprint
from kitaru._engine.loaded import is_gone, loaded_spec
from kitaru._engine.replay_spec import ReplaySpec
from kitaru._engine.reuse import parts_json, version_fingerprint
from kitaru._store.protocol import ExecutionRow, PastCall, Store
from kitaru.differences import Comparison
from kitaru.errors import KitaruError, KitaruStateError, KitaruUsageError
from kitaru.model import Difference
from kitaru.plans import Plan, PlannedCall
from kitaru.status import ExecutionStatus

VERBS = ("resume", "retry", "replay")
ACTIONS = ("recall", "carry", "override", "run", "perhaps", "orphan")

EVERYTHING = 1 << 62

MIN_TELLING_BYTES = 12
"""Values of fewer bytes are equal by chance too often to tell whose result an argument is."""

_BINDER = Binder(lambda value: None)


def chosen_verb(row: ExecutionRow, asked: object, *, replays: bool) -> str:
    """What is planned, or an error that says why it cannot be."""
    if asked is None:
        if row.status is State.FAILED and not replays:
            return "retry"
        return "replay" if replays or row.status in FINISHED else "resume"
    if asked not in VERBS:
        raise KitaruUsageError(
            f"for_={shortened(asked)}: pass one of {', '.join(VERBS)}."
            + did_you_mean(str(asked), VERBS),
            code="option-invalid",
        )
    if replays and asked != "replay":
        raise KitaruUsageError(
            f"for_={asked!r} with from_, overrides or inputs: those belong to a replay; leave them "
            "out",
            code="option-invalid",
        )
    if asked == "resume" and row.status in FINISHED:
        raise KitaruStateError(
            f"execution {row.exec_id} is {row.status}: there is nothing to resume. Plan a retry "
            "or a replay",
            code="nothing-to-resume",
        )
    return str(asked)


class Decision(NamedTuple):
    action: str
    reason: str


class Code(NamedTuple):
    """How the code that recorded a call stands to today's."""

    state: str
    changed: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()


class Planner:
    """One plan in the making."""

    def __init__(
        self,
        store: Store,
        row: ExecutionRow,
        *,
        root: str | None,
        project: str,
        verb: str,
        spec: ReplaySpec | None,
        inputs_before: Mapping[str, Any],
    ) -> None:
        self._store = store
        self._row = row
        self._root = root
        self._verb = verb
        self._spec = spec
        failed = row.failed_calls if row.status is State.FAILED else ()
        past = store.list_past(row.id, upto=EVERYTHING if spec is None else spec.upto)
        self._history: History[PastCall] = History(past, failed=failed)
        self._digits = id_digits(self._history.attempts)
        self._kept: Kept[PastCall] | None = None
        if spec is not None:
            self._kept = Kept(self._history, named=spec.named, overridden=spec.calls)
        self._decided: dict[bytes, Decision] = {}
        self._comparison = Comparison(store, project=project, flow_id=row.flow_id, execution=row.id)
        self._codes: dict[tuple[str, bytes | None], Code] = {}
        self._telling = {
            digest for value in inputs_before.values() if (digest := self._digest(value))
        }
        """Digests of values that will be others: an argument that was one of them changes."""
        self._since: int | None = 0 if inputs_before else None
        """From when on a call may depend on what is changed; None: nothing is."""

    def plan(self, status: ExecutionStatus) -> Plan:
        ordered = sorted(
            self._history.attempts.items(), key=lambda item: (item[1][0].seq, item[1][0].id)
        )
        calls = [self._planned(identity, attempts) for identity, attempts in ordered]
        used = [action for action in ACTIONS if any(c.action == action for c in calls)]
        by_action = {action: [c for c in calls if c.action == action] for action in used}
        return Plan(
            exec_id=self._row.exec_id,
            flow_name=self._row.flow_name,
            status=status,
            verb=self._verb,
            from_=None if self._spec is None else self._spec.from_,
            calls=tuple(calls),
            counts={action: len(found) for action, found in by_action.items()},
            costs={
                action: costs
                for action, found in by_action.items()
                if (costs := summed(call.costs for call in found))
            },
            seconds={
                action: round(sum(call.seconds for call in found), 6)
                for action, found in by_action.items()
            },
            notes=tuple(self._notes(calls)),
        )

    def _planned(self, identity: bytes, attempts: list[PastCall]) -> PlannedCall:
        decided = self._decide(identity, attempts)
        last = attempts[-1]
        code = self._code_of(last)
        if decided.action in ("recall", "carry", "perhaps") and code.state == "gone":
            decided = Decision("orphan", "today's code has no checkpoint of that name")
        self._decided[identity] = decided
        if decided.action in ("run", "override"):
            self._spread(identity, decided.action)
        return PlannedCall(
            call_id=f"{self._row.exec_id}:{identity.hex()[: self._digits]}",
            name=shown_name(last.checkpoint, self._row.code_module),
            seq=attempts[0].seq,
            action=decided.action,
            reason=decided.reason,
            code=code.state,
            changed=code.changed,
            differences=code.differences,
            costs=_costs(last),
            seconds=(last.ended_at - last.started_at) / 1e6,
        )

    # --- what becomes of a call ---------------------------------------------------------------

    def _decide(self, identity: bytes, attempts: list[PastCall]) -> Decision:
        if self._kept is not None:
            return self._decide_replay(self._kept, identity, attempts)
        parent = self._decided.get(attempts[0].parent or b"")
        if parent is not None:
            above = self._history.attempts[attempts[0].parent or b""]
            if parent.action != "run":
                return Decision(parent.action, f"it is inside {self._name(above[0])}")
            if attempts[0].parent_attempt <= len(above):
                return Decision(
                    "orphan", f"{self._name(above[0])} is tried anew, with calls of its own"
                )
        if identity in self._row.failed_calls and self._verb == "retry":
            return Decision("run", "it made the execution fail")
        outcome = self._history.outcome(identity)
        if outcome is None:
            last = attempts[-1]
            again = "a retry opened it again" if last.reopened else "it is to be tried again"
            return Decision("run", f"attempt {last.attempt} failed, and {again}")
        failed = outcome.state is CallState.FAILED
        return Decision("recall", "its failure is recorded" if failed else "it is recorded")

    def _decide_replay(
        self, kept: Kept[PastCall], identity: bytes, attempts: list[PastCall]
    ) -> Decision:
        spec = self._spec
        assert spec is not None
        parent = self._decided.get(attempts[0].parent or b"")
        if identity in spec.calls:
            return Decision("override", f"its outcome is given: {spec.calls[identity][0]}")
        if parent is not None and parent.action in ("carry", "override"):
            action = parent.action if parent.action == "carry" else "orphan"
            above = self._history.attempts[attempts[0].parent or b""][0]
            return Decision(action, f"it is inside {self._name(above)}")
        if identity == spec.named:
            return Decision("run", "the replay runs anew from here")
        if kept.holds(identity):
            return Decision("run", "it holds a call that is given or run anew")
        if kept.outcome(identity) is None:
            if self._history.outcome(identity) is None:
                return Decision("run", "it has no outcome")
            return Decision("run", f"it had not completed when {spec.from_} started")
        return self._decide_kept(attempts, parent)

    def _decide_kept(self, attempts: list[PastCall], parent: Decision | None) -> Decision:
        """A call that keeps its outcome if it is made with the inputs that it had."""
        spec = self._spec
        assert spec is not None
        arguments = json.loads(attempts[0].arguments)
        if spec.named is not None:
            return Decision("carry", f"it had completed when {spec.from_} started")
        hit = [name for name, digest in arguments.items() if digest in self._telling]
        if hit:
            return Decision("run", f"its input changes: {', '.join(hit)}")
        if self._since is not None and attempts[0].started_at >= self._since:
            return Decision("perhaps", "it runs if what is changed changes its inputs")
        if parent is not None and parent.action == "perhaps":
            return Decision("perhaps", "it is inside a call that may run")
        return Decision("carry", "nothing that it could depend on is changed")

    def _spread(self, identity: bytes, action: str) -> None:
        """What was this call's result will be another value for those that were given it."""
        spec = self._spec
        if spec is None:
            return
        outcome = self._history.outcome(identity)
        if outcome is None:
            return
        self._since = min(outcome.ended_at, self._since or outcome.ended_at)
        try:
            payload = self._store.load_payload(outcome.id)
            if action == "override" and payload == spec.calls[identity][1]:
                return
            if outcome.state is CallState.COMPLETED:
                digest = self._digest(decode(payload, what="a result"))
                self._telling |= {digest} if digest else set()
        except KitaruError:
            return  # its class is not loaded: then what depends on it is not foreseen

    def _digest(self, value: Any) -> str | None:
        """As which an argument of this value is recorded; None if that would tell nothing."""
        try:
            if len(encode(value, what="a result").data) < MIN_TELLING_BYTES:
                return None
            found = digest_inputs(
                {"value": value},
                binder=_BINDER,
                code_digest=code_digest,
                file_facts=lambda _: None,
            )
        except KitaruError:
            return None
        return found.arguments["value"].hex()

    def _name(self, call: PastCall) -> str:
        return shown_name(call.checkpoint, self._row.code_module)

    # --- today's code ---------------------------------------------------------------------------

    def _code_of(self, call: PastCall) -> Code:
        key = (call.checkpoint, call.code)
        if key not in self._codes:
            self._codes[key] = self._compare(*key)
        return self._codes[key]

    def _compare(self, checkpoint: str, recorded: bytes | None) -> Code:
        if is_gone(checkpoint):
            return Code("gone")
        spec = loaded_spec(checkpoint)
        if spec is None or recorded is None:
            return Code("unknown")
        if spec.version is not None:
            today = version_fingerprint(spec.version)
        else:
            today = fingerprint(spec.fn, root=self._root, what=spec.name)
        if today.digest == recorded:
            return Code("same")
        compared = self._comparison.with_today(
            checkpoint, recorded, digest=today.digest, parts=parts_json(today), files=today.files
        )
        return Code("changed", tuple(each.name for each in compared), tuple(compared))

    # --- what cannot be known ---------------------------------------------------------------------

    def _notes(self, calls: Iterable[PlannedCall]) -> list[str]:
        actions = Counter(call.action for call in calls)
        notes = []
        if self._verb == "retry" and not self._row.failed_calls:
            notes.append("the flow's own code failed: no recorded call runs again for it")
        notes += self._about_waits()
        again = "runs anew" if self._verb == "replay" else "goes on"
        notes.append(
            f"the flow's own code {again} from its top; what it calls that is not recorded runs"
        )
        if actions["run"] and not all(call.costs for call in calls if call.action == "run"):
            known = sum(bool(call.costs) for call in calls if call.action == "run")
            if known:
                notes.append(f"costs are known of {known} of {actions['run']} calls that run")
        return notes

    def _about_waits(self) -> list[str]:
        waits = self._store.list_waits(self._row.id)
        if self._spec is None:
            named = [each.row.label for each in waits if each.state is WaitState.OPEN]
            return [f"it waits for {', '.join(named)}"] if named else []
        given = self._spec.waits
        named = [each.row.label for each in waits if each.row.identity not in given]
        return [f"asks again: {', '.join(dict.fromkeys(named))}"] if named else []


def _costs(call: PastCall) -> dict[str, float]:
    try:
        found = json.loads(call.metadata) if call.metadata else {}
    except (ValueError, RecursionError):
        return {}
    return costs_of(found) if isinstance(found, dict) else {}
