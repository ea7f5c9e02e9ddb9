"""The commands that look and change nothing: list, get, why, status."""

from __future__ import annotations

from typing import Any

from kitaru import app as _app
from kitaru._core.lifecycle import State
from kitaru.cli.output import Session, print_fields, print_text
from kitaru.cli.place import existing_client
from kitaru.cli.shown import (
    as_data,
    print_execution,
    print_executions,
    print_result,
    recorded_result,
    size,
)
from kitaru.errors import KitaruStateError
from kitaru.model import ExecutionStatus
from kitaru.records import instant


def list_executions(session: Session, flow: str | None, status: str | None, limit: int) -> None:
    found = existing_client().executions.list(flow=flow, status=status, limit=limit)
    if session.as_json:
        session.items([as_data(execution) for execution in found])
    elif found:
        print_executions(found, instant(_app.current().env.now()))
    else:
        session.progress("no executions" + (" like that" if flow or status else " yet"))


def _why_no_result(exec_id: str, status: ExecutionStatus) -> str:
    says = f"execution {exec_id} is {status}: it has no result"
    if status is ExecutionStatus.FAILED:
        return f"{says}; run what failed again: kitaru executions retry {exec_id}"
    if status in (ExecutionStatus.INTERRUPTED, ExecutionStatus.PENDING):
        return f"{says}; go on with it: kitaru executions resume {exec_id}"
    return f"{says} yet; look again: kitaru executions get {exec_id}"


def show_execution(session: Session, exec_id: str, *, only_result: bool) -> None:
    executions = existing_client().executions
    execution = executions.get(exec_id)
    if only_result and not execution.status.is_successful:
        raise KitaruStateError(_why_no_result(execution.exec_id, execution.status))
    if session.as_json:
        item = as_data(execution)
        item["checkpoints"] = as_data(executions.list_checkpoints(execution.exec_id))
        if only_result:
            item["result"] = recorded_result(execution.exec_id)
        session.item(item)
    elif only_result:
        print_result(recorded_result(execution.exec_id))
    else:
        print_execution(execution, executions.list_checkpoints(execution.exec_id))


def explain_calls(session: Session, exec_id: str, checkpoint: str | None) -> None:
    found = existing_client().executions.why(exec_id, checkpoint)
    if session.as_json:
        session.items([as_data(each) for each in found])
        return
    for each in found:
        print_text(str(each))
    if not found:
        session.progress("no call is recorded yet")


def show_status(session: Session) -> None:
    existing_client()
    app = _app.current()
    found = app.store.info()
    owners = [o for o in app.store.list_owners() if app.runner.is_alive(o.id)]
    item: dict[str, Any] = {
        "store": found["location"],
        "bytes": found["bytes"],
        "project": app.project,
        "schema_version": found["schema_version"],
        "sqlite_version": found["sqlite_version"],
        "executions": counts(app),
        "owners": [{"pid": owner.pid, "host": owner.host} for owner in owners],
    }
    if session.as_json:
        session.item(item)
        return
    print_fields(
        [
            ("store", item["store"]),
            ("size", size(item["bytes"])),
            ("project", item["project"]),
            ("schema", f"{item['schema_version']} (SQLite {item['sqlite_version']})"),
            ("executions", ", ".join(f"{n} {name}" for name, n in item["executions"].items())
             or "none yet"),
            ("running in", ", ".join(f"process {o.pid} on {o.host}" for o in owners)
             or "no process"),
        ]
    )  # fmt: skip


def counts(app: _app.Kitaru) -> dict[str, int]:
    """Executions by status; the interrupted ones, whose owner is dead, are told apart."""
    recorded = {
        state.value: n for state, n in app.store.count_executions(project=app.project).items()
    }
    interrupted = _interrupted(app)
    for state, n in interrupted.items():
        recorded[state.value] -= n
    total = sum(interrupted.values())
    if total:
        recorded[ExecutionStatus.INTERRUPTED.value] = total
    return {name: n for name, n in recorded.items() if n > 0}


def _interrupted(app: _app.Kitaru) -> dict[State, int]:
    found: dict[State, int] = {}
    alive: dict[int | None, bool] = {}
    before: int | None = None
    states = (State.RUNNING, State.CANCELLING)
    while rows := app.store.list_executions(
        project=app.project, statuses=states, before=before, limit=200
    ):
        for row in rows:
            if row.owner not in alive:
                alive[row.owner] = app.runner.is_alive(row.owner)
            if not alive[row.owner]:
                found[row.status] = found.get(row.status, 0) + 1
        before = rows[-1].id
    return found
