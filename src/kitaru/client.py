"""``KitaruClient``: all that a surface may do with executions, whoever runs them.

Finds executions, shows them as records, and resumes or retries them in this
process. Knows nothing of terminals, and imports no module of the user's: a
flow that is to run here has to be known here.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from kitaru import answering, decisions
from kitaru import app as _app
from kitaru._core.checks import check_text
from kitaru._core.lifecycle import FINISHED, State
from kitaru._core.naming import shown_name
from kitaru._engine.asking import who
from kitaru._engine.awaited import describe
from kitaru._engine.cancelling import cancel, settle, tell
from kitaru._engine.deadlines import fresh_deadline
from kitaru._store.protocol import ExecutionRow, Refused, Retry, Wake
from kitaru.artifacts import Artifacts
from kitaru.cancels import checked_reason
from kitaru.errors import (
    KitaruStateError,
)
from kitaru.fleet import Limits, Queues, Workers
from kitaru.handles import FlowHandle
from kitaru.housekeeping import GRACE_SECONDS, Collected
from kitaru.looking import Looking
from kitaru.lookup import MAX_LIMIT, checked_limit
from kitaru.memories import Memories
from kitaru.model import Execution
from kitaru.plans import LivePlan, Plan
from kitaru.records import status_of
from kitaru.schedules import Schedules
from kitaru.status import ExecutionStatus

if TYPE_CHECKING:
    from kitaru._engine.execution import FlowSpec
    from kitaru._engine.replay_spec import ReplaySpec
    from kitaru.transfer import Exported


Code = Callable[[ExecutionRow], "FlowSpec"]
"""Finds, or imports, the flow of an execution; raises ``KitaruError`` if it is not there."""


class Executions(Looking):
    """``client.executions``. An execution is named by its id or any unique part of it."""

    def __init__(self, app: _app.Kitaru) -> None:
        super().__init__(
            app.store,
            project=app.project,
            root=app.root,
            is_alive=app.runner.ownership.is_alive,
            logs=app.logs,
        )
        self._app = app

    def _now(self) -> int:
        return self._app.env.now()

    def handle(self, exec_id: str) -> FlowHandle[Any]:
        """A handle on the execution: it follows, and takes nothing over."""
        row = self.find_row(exec_id)
        flow = _app.find_flow(row.flow_id)
        return FlowHandle(row.exec_id, row.id, None if flow is None else flow.spec)

    # --- acting ------------------------------------------------------------------------------

    def resume(self, exec_id: str) -> FlowHandle[Any]:
        """Go on with a pending, interrupted or due execution, in this process.

        What is recorded is not done again. Raises ``KitaruStateError`` if it is
        finished, if it waits and nothing has arrived, if a live process owns it, or if
        its flow is not known here.
        """
        row = self.find_row(exec_id)
        self.check_resumable(row)
        if row.status is State.WAITING:
            row = self._woken(row)
        return self._take(row)

    def _woken(self, row: ExecutionRow) -> ExecutionRow:
        """One that is due, and that nobody has gone on with yet."""
        with contextlib.suppress(Refused):
            self._app.store.apply(Wake(row.id, row.epoch, self._app.env.now()))
        return self.find_row(row.exec_id)

    def retry(self, exec_id: str) -> FlowHandle[Any]:
        """Run a failed execution again, in this process: the same execution, one attempt more.

        The calls whose exception made it fail run again; all other outcomes
        stay. Says on stderr which. Raises ``KitaruStateError`` if it has not
        failed, or if its flow is not known here.
        """
        row = self.find_row(exec_id)
        self.check_retryable(row)
        self._flow_of(row)
        again = self._failed_checkpoints(row)
        try:
            now = self._app.env.now()
            opening = Retry(row.id, row.epoch, now, fresh_deadline(row, now))
            opened = self._app.store.apply(opening)
        except Refused as error:
            raise KitaruStateError(
                f"execution {row.exec_id} was retried or resumed by somebody else meanwhile "
                f"({error}): look at it with kitaru executions get {row.exec_id}",
                code="already-running",
            ) from error
        self._app.services.events.written(opened, opening, opened)
        self._app.services.say(_what_runs_again(row, again))
        return self._take(opened)

    def replay(
        self,
        /,
        exec_id: str,
        *,
        from_: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        **inputs: Any,
    ) -> FlowHandle[Any]:
        """Make a new execution from a finished one, in this process; see ``flow.replay``.

        Raises ``KitaruStateError`` if its flow is not known here.
        """
        row = self.find_row(exec_id)
        handle: FlowHandle[Any] = self._flow_of(row, "replay").replay(
            row.exec_id, from_, overrides, **inputs
        )
        return handle

    def cancel(self, exec_id: str, *, reason: str | None = None) -> Execution:
        """Cancel an execution and its children, wherever they run -> how it stands then.

        ``cancelling`` until the code of what runs has stopped, then ``cancelled``; what waits
        or has not begun is ``cancelled`` at once. To cancel what is being cancelled changes
        nothing. Raises ``KitaruStateError`` if the execution is finished.
        """
        row = self.find_row(exec_id)
        found = cancel(self._app.runner, row, by=who(), reason=checked_reason(reason))
        return self.get(found.exec_id)

    def plan(
        self,
        /,
        exec_id: str,
        *,
        for_: str | None = None,
        from_: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        **inputs: Any,
    ) -> Plan:
        """What a resume, retry or replay would recall, run and orphan with today's code.

        Runs and changes nothing. ``for_`` is ``"resume"``, ``"retry"`` or ``"replay"``; without
        it what fits the execution: a retry if it has failed, a replay if it is finished or
        something of one is said, else a resume. The rest is as for ``replay()``. The code is what
        this process has imported.

        >>> import kitaru
        >>> @kitaru.checkpoint(cache=False)
        ... def ask() -> str:
        ...     kitaru.log(cost=0.02)
        ...     return "42"
        >>> @kitaru.flow
        ... def chat() -> str:
        ...     return ask()
        >>> handle = chat.run()
        >>> handle.wait()
        '42'
        >>> plan = kitaru.KitaruClient().executions.plan(handle.exec_id, from_="ask")
        >>> plan.verb, plan.counts, plan.costs
        ('replay', {'run': 1}, {'run': {'cost': 0.02}})
        """
        # Loaded here: commands that plan nothing need not wait for it.
        from kitaru.planning import Planner, chosen_verb

        row = self.find_row(exec_id)
        replays = bool(from_ is not None or overrides or inputs)
        verb = chosen_verb(row, for_, replays=replays)
        spec: ReplaySpec | None = None
        before: dict[str, Any] = {}
        if verb == "retry":
            self.check_retryable(row)
        elif verb == "replay":
            spec, before = self._foreseen(row, from_, overrides, inputs)
        planner = Planner(
            self._app.store,
            row,
            root=self._root,
            project=self._project,
            verb=verb,
            spec=spec,
            inputs_before=before,
        )
        return planner.plan(status_of(row, self._liveness()))

    def plan_live(
        self, *, flow: str | None = None, limit: int = MAX_LIMIT, code: Code | None = None
    ) -> Iterator[LivePlan]:
        """How each unfinished execution stands to the code that this process has imported.

        Newest first, at most ``limit``, of one ``flow`` (its name or id) if it is said. Runs no
        flow and no checkpoint, and changes nothing; values are read one after the other. For a
        look before a deploy: import the new code, then ask.

        >>> import kitaru
        >>> [plan.verdict for plan in kitaru.KitaruClient().executions.plan_live()]
        []
        """
        from kitaru.deploys import LiveCheck, unfinished

        check_text("flow", flow)
        find = code or (lambda row: self._flow_of(row, "resume").spec)
        check = LiveCheck(self._app.store, project=self._project, root=self._root, find_flow=find)
        alive = self._liveness()
        rows = unfinished(self._app.store, self._project, flow=flow, limit=checked_limit(limit))
        return (check.check(row, status_of(row, alive)) for row in rows)

    def _foreseen(
        self,
        row: ExecutionRow,
        from_: str | None,
        overrides: Mapping[str, Any] | None,
        inputs: Mapping[str, Any],
    ) -> tuple[ReplaySpec, dict[str, Any]]:
        """What a replay would be decided to be, and the inputs that it changes, as they were."""
        from kitaru._engine.replaying import check_finished, decide_replay, merge_inputs

        check_finished(row)
        if not inputs:
            return decide_replay(self._app.store, row, from_=from_, overrides=overrides), {}
        merged = merge_inputs(self._flow_of(row, "replay").spec, row, inputs)
        changed = merged.changed
        spec = decide_replay(
            self._app.store, row, from_=from_, overrides=overrides, changed=changed
        )
        return spec, {name: merged.before.get(name) for name in changed}

    # --- what executions wait for ------------------------------------------------------------

    def input(self, exec_id: str, *, wait: str, value: Any, by: str | None = None) -> None:
        """Answer a wait: its execution goes on by itself, where a process serves it.

        ``wait`` is a name, a label (``wait_condition:0``) or a unique part of a wait's id;
        ``value`` is JSON data, or an object of the type that is asked for. The first valid
        answer wins, a later one raises ``KitaruStateError``; one that does not fit raises
        ``KitaruWaitValidationError``, and the wait stays open. ``by`` is recorded with it
        (else ``user@host``).
        """
        row = self.find_row(exec_id)
        answering.answer(self._app.store, self._app.env, row, wait, value, by=by)
        self._app.runner.look(row.exec_id)

    def abort_wait(self, exec_id: str, *, wait: str, by: str | None = None) -> None:
        """Abort a wait: its execution is cancelled, with all its children."""
        row = self.find_row(exec_id)
        _, cancelled = answering.abort(self._app.store, self._app.env, row, wait, by=by)
        tell(self._app.runner, cancelled)

    def decide(
        self,
        exec_id: str,
        call: str,
        decision: Literal["run", "adopt", "abort"],
        *,
        record: str | None = None,
        value: Any = decisions.NO_VALUE,
        by: str | None = None,
    ) -> None:
        """Decide what is to become of a call that never runs on its own.

        ``call`` is its id, or its checkpoint's name. ``"run"`` runs its body; ``"adopt"``
        makes its outcome: ``value`` for an uncertain call (None is a value), for a drifted
        one the recorded call ``record``, needed if there are several; ``"abort"`` cancels
        the execution. The first decision counts, a later one raises ``KitaruStateError``.
        """
        row = self.find_row(exec_id)
        decisions.decide(
            self._app.store, self._app.env, row, call, decision, record=record, value=value, by=by
        )
        self._app.runner.look(row.exec_id)

    def delete(self, exec_id: str) -> Sequence[str]:
        """Delete a finished execution and its children, for ever -> the ids that are gone.

        What other executions have reused of it they keep. Raises ``KitaruStateError`` if it,
        or one of its children, is not finished, or if its parent or a replay of it is not.
        """
        return self._app.housekeeper.delete(self.find_row(exec_id))

    def export(self, exec_id: str, path: str | os.PathLike[str]) -> Exported:
        """Write a finished execution, with its children and large values, to one new file."""
        return self._app.housekeeper.export(self.find_row(exec_id), os.fspath(path))

    def import_(self, path: str | os.PathLike[str]) -> Execution:
        """Record the execution that a file holds -> it. Its id is kept, if that is free here.

        Every value is checked against its digest before anything is written; raises
        ``KitaruValueError`` if the file is not whole.
        """
        rows = self._app.housekeeper.import_(os.fspath(path), self._app.project)
        return self.get(rows[0].exec_id)

    # --- for the command line: the same questions, before anything is imported -----------------

    def check_resumable(self, row: ExecutionRow) -> None:
        """Raise ``KitaruStateError`` unless resuming this execution here makes sense."""
        if row.status is State.FAILED:
            raise KitaruStateError(
                f"execution {row.exec_id} has failed: a resume would only raise its failure "
                f"again. Run what failed again: kitaru executions retry {row.exec_id}",
                code="nothing-to-resume",
            )
        if settle(self._app.runner, row):
            row = self.find_row(row.exec_id)
        if row.status in FINISHED:
            raise KitaruStateError(
                f"execution {row.exec_id} is {row.status}: there is nothing to resume. "
                f"Look at it: kitaru executions get {row.exec_id} --result",
                code="nothing-to-resume",
            )
        if row.status is State.WAITING and (row.due_at is None or row.due_at > self._app.env.now()):
            raise KitaruStateError(
                f"there is nothing to resume yet: {describe(self._app.store, row)}",
                code="execution-waiting",
            )
        runner = self._app.runner
        if row.status is not State.WAITING and runner.completion(row.exec_id) is not None:
            raise KitaruStateError(
                f"execution {row.exec_id} runs in this process already: follow it with "
                "client.executions.handle(...)",
                code="already-running",
            )
        if row.status in (State.RUNNING, State.CANCELLING) and not runner.may_take(row):
            assert row.owner is not None
            owner = self._app.store.get_owner(row.owner)
            if row.status is State.CANCELLING:
                raise KitaruStateError(
                    f"execution {row.exec_id} is being cancelled, and its code in process "
                    f"{owner.pid} on {owner.host} has not stopped yet: there is nothing to "
                    "resume; run the flow again for a new execution",
                    code="nothing-to-resume",
                )
            raise KitaruStateError(
                f"execution {row.exec_id} is run by process {owner.pid} on {owner.host}, which "
                "is alive: it goes on there. If that process hangs, end it, then resume",
                code="already-running",
            )

    def check_retryable(self, row: ExecutionRow) -> None:
        """Raise ``KitaruStateError`` unless the execution has failed."""
        if row.status is State.FAILED:
            return
        status = status_of(row, self._liveness())
        if row.status in FINISHED:
            next_step = "run the flow again for a new execution"
        elif status is ExecutionStatus.RUNNING:
            next_step = "a live process runs it: wait for its end"
        else:
            next_step = f"to go on with it: kitaru executions resume {row.exec_id}"
        raise KitaruStateError(
            f"execution {row.exec_id} is {status}: only a failed one can be retried; {next_step}",
            code="not-failed",
        )

    def _take(self, row: ExecutionRow) -> FlowHandle[Any]:
        flow = self._flow_of(row)
        completion = self._app.runner.take(flow.spec, row, asked=True)
        return FlowHandle(row.exec_id, row.id, flow.spec, adopts=True, completion=completion)

    def _flow_of(self, row: ExecutionRow, verb: str | None = None) -> Any:
        flow = _app.find_flow(row.flow_id)
        if flow is None:
            usual = "retry" if row.status is State.FAILED else "resume"
            importable = row.code_folder is not None
            where = f"import {row.code_module}" if importable else "run the program that has it"
            raise KitaruStateError(
                f"flow {row.flow_id!r} of execution {row.exec_id} is not known in this process: "
                f"{where} first, or use the command line, which imports it: "
                f"kitaru executions {verb or usual} {row.exec_id}",
                code="flow-not-known-here",
            )
        return flow

    def _failed_checkpoints(self, row: ExecutionRow) -> Sequence[str]:
        store, names = self._app.store, []
        for call in row.failed_calls:
            name = store.find_checkpoint(row.id, call)
            if name is not None:
                names.append(shown_name(name, row.code_module))
            elif (child := store.find_child(row.exec_id, call)) is not None:
                names.append(f"execution {child.exec_id} of {child.flow_name}")
        return names


class KitaruClient:
    """Looks at executions of this program's store, and resumes or retries them here.

    >>> KitaruClient().executions.list(flow="no such flow")
    []
    """

    def __init__(self) -> None:
        app = _app.current()
        self.executions = Executions(app)
        self.artifacts = Artifacts(app.store, app.project)
        self.memories = Memories(app.store, app.project, app.env)
        self.schedules = Schedules(app.store, app.project, app.env, app.runner.ownership.is_alive)
        self.workers = Workers(app.store, app.project, app.runner.ownership.is_alive)
        self.queues = Queues(app.store, app.project, app.env)
        self.limits = Limits(app.store, app.project)
        self._housekeeper = app.housekeeper

    def gc(self, *, dry_run: bool = False, grace_seconds: float = GRACE_SECONDS) -> Collected:
        """Remove what is past its ``retention``, and large values that nothing names.

        Never what is not finished. ``grace_seconds``: how old such a value's file must be.
        May be stopped at any moment; the next one goes on.

        >>> KitaruClient().gc(dry_run=True).executions
        ()
        """
        return self._housekeeper.collect(dry_run=dry_run, grace_seconds=grace_seconds)


def _what_runs_again(row: ExecutionRow, checkpoints: Sequence[str]) -> str:
    begun = f"retry of execution {row.exec_id}, attempt {row.attempt + 1}: "
    if not checkpoints:
        return begun + "the flow's own code failed and runs again; all recorded results stay"
    names = ", ".join(dict.fromkeys(checkpoints))
    return begun + f"{names} runs again; all other recorded results stay"
