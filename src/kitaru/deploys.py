"""Unfinished executions against the code that this process has imported, before it is deployed.

For each: what a resume would recall and run anew, and what would stop it: a flow that is not
there, inputs or a value that this code cannot read, a call that a strict flow would
miss. Runs no flow and no checkpoint; what a flow's own code would call anew cannot be known.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from kitaru._core.lifecycle import CallState, State
from kitaru._core.replaying import History
from kitaru._core.values import decode
from kitaru._core.values.pickled import PICKLED
from kitaru._engine.call import CheckpointSpec
from kitaru._engine.execution import FlowSpec, flow_hints
from kitaru._engine.loaded import loaded_spec
from kitaru._store.protocol import ExecutionRow, PastCall, Store
from kitaru.errors import KitaruError
from kitaru.planning import EVERYTHING, Planner
from kitaru.plans import LivePlan, Plan, PlannedCall
from kitaru.status import ExecutionStatus

UNFINISHED = (State.PENDING, State.RUNNING, State.WAITING, State.CANCELLING)

MAX_PROBLEMS = 20
"""Problems of one execution that are told; the rest is counted."""

_PAGE = 200


class Problem(NamedTuple):
    stops: bool
    """Whether the execution would not go on; else it does, and something runs anew."""
    text: str


def unfinished(
    store: Store, project: str, *, flow: str | None, limit: int
) -> Iterator[ExecutionRow]:
    """Unfinished executions of the project, newest first."""
    before: int | None = None
    while limit > 0:
        rows = store.list_executions(
            project=project,
            flow=flow,
            statuses=UNFINISHED,
            before=before,
            limit=min(limit, _PAGE),
        )
        yield from rows
        if len(rows) < min(limit, _PAGE):
            return
        limit -= len(rows)
        before = rows[-1].id


class LiveCheck:
    """Holds executions of one store against the code that is here."""

    def __init__(
        self,
        store: Store,
        *,
        project: str,
        root: str | None,
        find_flow: Callable[[ExecutionRow], FlowSpec],
    ) -> None:
        self._store = store
        self._project = project
        self._root = root
        self._find_flow = find_flow
        """Raises ``KitaruError`` that says why the flow is not here."""

    def check(self, row: ExecutionRow, status: ExecutionStatus) -> LivePlan:
        problems: list[Problem] = []
        counts: Counter[str] = Counter()
        try:
            flow = self._find_flow(row)
        except KitaruError as error:
            problems.append(Problem(True, f"its flow is not in this code: {error}"))
        else:
            problems += _inputs(row, flow)
            plan = self._plan(row, status)
            found = list(self._calls(row, plan))
            drifted = {call.call_id for call, _, problem in found if problem is not None}
            problems += [problem for _, _, problem in found if problem is not None]
            for call in plan.calls:
                is_drift = call.call_id in drifted and call.action != "orphan"
                counts["drift" if is_drift else call.action] += 1
        return _told(row, status, problems, counts)

    def _plan(self, row: ExecutionRow, status: ExecutionStatus) -> Plan:
        planner = Planner(
            self._store,
            row,
            root=self._root,
            project=self._project,
            verb="resume",
            spec=None,
            inputs_before={},
        )
        return planner.plan(status)

    def _calls(
        self, row: ExecutionRow, plan: Plan
    ) -> Iterator[tuple[PlannedCall, PastCall, Problem | None]]:
        """Each call that a resume would ask for, and what is wrong with it."""
        history: History[PastCall] = History(self._store.list_past(row.id, upto=EVERYTHING))
        strict = bool(json.loads(row.spec).get("strict"))
        actions = {call.call_id.partition(":")[2]: call for call in plan.calls}
        digits = max((len(name) for name in actions), default=0)
        for identity, attempts in history.attempts.items():
            call = actions[identity.hex()[:digits]]
            last = attempts[-1]
            if call.action == "orphan":
                yield call, last, _orphan(call, strict=strict)
            elif call.action == "recall" and not _is_hidden(history, last):
                yield call, last, self._problem(row, history, identity, call, strict=strict)
            else:
                yield call, last, None

    def _problem(
        self,
        row: ExecutionRow,
        history: History[PastCall],
        identity: bytes,
        call: PlannedCall,
        *,
        strict: bool,
    ) -> Problem | None:
        last = history.attempts[identity][-1]
        spec = loaded_spec(last.checkpoint)
        if spec is not None and (differs := signature_drift(spec, last.arguments)):
            once = spec.once
            happens = (
                "the flow is strict, and stops"
                if strict
                else f"it has {spec.said_once}, and waits for a person"
                if once
                else "it would run anew"
            )
            text = f"{call.name} #{call.seq} is another call in this code: {differs}; {happens}"
            return Problem(strict or once, text)
        outcome = history.outcome(identity)
        if outcome is None or outcome.state is not CallState.COMPLETED:
            return None
        return self._unreadable(outcome.id, call)

    def _unreadable(self, number: int, call: PlannedCall) -> Problem | None:
        try:
            payload = self._store.load_payload(number)
            if payload.codec != PICKLED:
                decode(payload, what=call.name)
        except KitaruError as error:
            return Problem(True, f"the result of {call.name} #{call.seq} cannot be read: {error}")
        return None


def signature_drift(spec: CheckpointSpec, arguments: str) -> str:
    """Why a call recorded with these arguments cannot be the same in this code; or nothing.

    By the names of its parameters alone: what their values would be is not known.
    """
    if spec.key is not None:
        return ""
    recorded = {name for name in json.loads(arguments) if not name.startswith("*")}
    binder = spec.binder
    named = [name for name in binder.names if not name.startswith("*")]
    gone = [] if binder.rest_keys is not None else sorted(recorded - set(named))
    needed = [name for name in named if name not in binder.defaults and name not in spec.ignore]
    missing = [name for name in needed if name not in recorded]
    said = []
    if gone:
        said.append(f"it takes no {', '.join(map(repr, gone))} any more")
    if missing:
        said.append(f"it needs {', '.join(map(repr, missing))}")
    return " and ".join(said)


def _is_hidden(history: History[PastCall], call: PastCall) -> bool:
    """Whether a call around it has its outcome: then nobody asks for this one."""
    return any(
        history.outcome(identity) is not None for identity, _ in history.above(call.identity)
    )


def _orphan(call: PlannedCall, *, strict: bool) -> Problem | None:
    if call.code != "gone":
        return None  # of a try that is over: nobody asks for it in any code
    hint = "give the new one aliases=[…], if it was renamed"
    return Problem(False, f"{call.name} #{call.seq} is orphaned: {call.reason}; {hint}")


def _inputs(row: ExecutionRow, flow: FlowSpec) -> list[Problem]:
    if row.inputs is None:
        return []
    try:
        bound: Any = decode(row.inputs, what=f"flow {flow.name}", hints=flow_hints(flow))
        args, kwargs = flow.binder.unbind(bound)
        flow.binder.bind(args, kwargs)
    except KitaruError as error:
        return [Problem(True, f"its inputs do not fit this code: {error}")]
    return []


def _told(
    row: ExecutionRow, status: ExecutionStatus, problems: list[Problem], counts: Counter[str]
) -> LivePlan:
    stops = any(problem.stops for problem in problems)
    # What stops it first: it must not be hidden behind what only runs anew.
    texts = [problem.text for problem in sorted(problems, key=lambda each: not each.stops)]
    if len(texts) > MAX_PROBLEMS:
        texts[MAX_PROBLEMS:] = [f"and {len(texts) - MAX_PROBLEMS:,} more"]
    return LivePlan(
        exec_id=row.exec_id,
        flow_id=row.flow_id,
        flow_name=row.flow_name,
        status=status,
        verdict="stops" if stops else "runs anew" if problems else "fine",
        counts=dict(counts),
        problems=tuple(texts),
    )
