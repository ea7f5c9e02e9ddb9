"""The commands that look at one thing and change nothing: get, why, status."""

from __future__ import annotations

import sys
from typing import Any

from kitaru.cli.canvas import screen_of, write
from kitaru.cli.explaining import why_lines
from kitaru.cli.families import Relative, as_tree_data, family_of
from kitaru.cli.findings import status_lines
from kitaru.cli.output import Session
from kitaru.cli.place import existing
from kitaru.cli.showing import execution_lines
from kitaru.cli.shown import as_data, print_result, recorded_result
from kitaru.cli.standing import engine_item, gather
from kitaru.errors import KitaruStateError
from kitaru.looking import Looking
from kitaru.status import ExecutionStatus


def _why_no_result(exec_id: str, status: ExecutionStatus) -> str:
    says = f"execution {exec_id} is {status}: it has no result"
    if status is ExecutionStatus.FAILED:
        return f"{says}; run what failed again: kitaru executions retry {exec_id}"
    if status in (ExecutionStatus.INTERRUPTED, ExecutionStatus.PENDING):
        return f"{says}; go on with it: kitaru executions resume {exec_id}"
    if status is ExecutionStatus.WAITING:
        return f"{says} yet; answer it: kitaru executions input {exec_id} --interactive"
    return f"{says} yet; look again: kitaru executions get {exec_id}"


def show_execution(session: Session, exec_id: str, *, only_result: bool) -> None:
    place = existing()
    executions = place.executions
    execution = executions.get(exec_id)
    if only_result and not execution.status.is_successful:
        raise KitaruStateError(
            _why_no_result(execution.exec_id, execution.status), code="no-result"
        )
    if session.as_json:
        item = as_data(execution)
        item["pending_waits"] = as_data(executions.pending_waits(execution.exec_id))
        item["children"] = as_tree_data(_family(executions, execution.exec_id))
        item["checkpoints"] = as_data(executions.list_checkpoints(execution.exec_id))
        if only_result:
            item["result"] = recorded_result(executions.find_row(execution.exec_id))
        session.item(item)
    elif only_result:
        print_result(recorded_result(executions.find_row(execution.exec_id)))
    else:
        calls = executions.list_checkpoints(execution.exec_id)
        screen = screen_of(sys.stdout)
        result = executions.preview_result(execution.exec_id)
        waits = executions.pending_waits(execution.exec_id)
        family = _family(executions, execution.exec_id)
        lines = execution_lines(execution, calls, result, screen, place.now, waits, family)
        write(lines, screen)


def _family(executions: Looking, exec_id: str) -> list[Relative]:
    return family_of(lambda parent, limit: executions.list_children(parent, limit=limit), exec_id)


def explain_calls(session: Session, exec_id: str, checkpoint: str | None) -> None:
    found = existing().executions.why(exec_id, checkpoint)
    if session.as_json:
        session.items([as_data(each) for each in found])
        return
    screen = screen_of(sys.stdout)
    write(why_lines(found, screen), screen)
    if not found:
        session.progress("no call is recorded yet")


def show_status(session: Session) -> None:
    standing = gather(existing())
    item: dict[str, Any] = {
        "store": standing.info["location"],
        "bytes": standing.size.total,
        "project": standing.project,
        "schema_version": standing.info["schema_version"],
        **engine_item(standing.info),
        "executions": standing.executions,
        "outcomes": standing.recorded.calls,
        "growth": {**standing.growth._asdict(), "bytes_per_day": standing.bytes_per_day},
        "queues": as_data(standing.queues),
        "pending_waits": as_data(standing.waits),
        "owners": [{"pid": owner.pid, "host": owner.host} for owner in standing.alive],
    }
    if session.as_json:
        session.item(item)
        return
    screen = screen_of(sys.stdout)
    write(status_lines(standing, screen), screen)
