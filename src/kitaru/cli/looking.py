"""The commands that look and change nothing: list, get, why, status."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any, NamedTuple

from kitaru import app as _app
from kitaru._core.names import nearest
from kitaru.cli.canvas import screen_of, write
from kitaru.cli.explaining import why_lines
from kitaru.cli.findings import status_lines
from kitaru.cli.listing import Listed, drawn_lines, plain_lines
from kitaru.cli.output import Session
from kitaru.cli.place import existing_client
from kitaru.cli.showing import execution_lines
from kitaru.cli.shown import (
    as_data,
    print_result,
    recorded_result,
)
from kitaru.cli.standing import gather
from kitaru.cli.times import looks_like_time, parse_time
from kitaru.client import Executions
from kitaru.errors import KitaruStateError
from kitaru.lookup import MAX_GUESSED, MAX_LIMIT, checked_limit
from kitaru.model import Execution, ExecutionStatus
from kitaru.records import instant

MAX_COUNTED = 100_000


class Wanted(NamedTuple):
    """Which executions a list is to show, as a person said it."""

    flow: str | None
    status: str | None
    key: str | None
    tags: tuple[str, ...]
    since: str | None
    before: str | None
    limit: int


def list_executions(session: Session, wanted: Wanted, *, absolute: bool) -> None:
    executions = existing_client().executions
    now = instant(_app.current().env.now())
    limit = checked_limit(wanted.limit)
    found = executions.list(
        flow=wanted.flow,
        status=wanted.status,
        key=wanted.key,
        tags=wanted.tags,
        since=None if wanted.since is None else parse_time(wanted.since, now, option="--since"),
        before=_time_or_execution(wanted.before, now),
        # One more than is shown, to know whether there are more.
        limit=min(limit + 1, MAX_LIMIT),
    )
    found, more = found[:limit], len(found) > limit or limit == len(found) == MAX_LIMIT
    listed = [_counted(executions, execution) for execution in found]
    if session.as_json:
        items = [_listed_as_data(each) for each in listed]
        session.items(items, next=found[-1].exec_id if more else None)
        return
    screen = screen_of(sys.stdout)
    if not found:
        session.progress(_nothing(executions, wanted))
    elif screen.drawn:
        write(drawn_lines(listed, screen, now, absolute=absolute), screen)
    else:
        write(plain_lines(listed), screen)
    if more:
        session.progress(
            f"there are more than these {limit}: add --before {found[-1].exec_id}, or --limit"
        )


def _time_or_execution(text: str | None, now: datetime) -> str | datetime | None:
    if text is None or not looks_like_time(text):
        return text
    return parse_time(text, now, option="--before")


def _counted(executions: Executions, execution: Execution) -> Listed:
    completed, failed = executions.count_calls(execution.exec_id, limit=MAX_COUNTED)
    return Listed(execution, completed, failed, completed + failed >= MAX_COUNTED)


def _listed_as_data(each: Listed) -> dict[str, Any]:
    item: dict[str, Any] = as_data(each.execution)
    return item | {"calls": {"completed": each.completed, "failed_attempts": each.failed}}


def _nothing(executions: Executions, wanted: Wanted) -> str:
    if wanted == Wanted(None, None, None, (), None, None, wanted.limit):
        return "no executions yet: run a flow, for example `kitaru run my_flows.py:hello`"
    if wanted.flow is not None:
        heads = executions.heads(limit=MAX_GUESSED)
        names = {name for head in heads for name in (head.flow_name, head.flow_id)}
        if wanted.flow not in names and (meant := nearest(wanted.flow, names)):
            return f"no executions of a flow {wanted.flow!r}; did you mean {meant!r}?"
    return "no executions like that"


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
        raise KitaruStateError(
            _why_no_result(execution.exec_id, execution.status), code="no-result"
        )
    if session.as_json:
        item = as_data(execution)
        item["checkpoints"] = as_data(executions.list_checkpoints(execution.exec_id))
        if only_result:
            item["result"] = recorded_result(execution.exec_id)
        session.item(item)
    elif only_result:
        print_result(recorded_result(execution.exec_id))
    else:
        calls = executions.list_checkpoints(execution.exec_id)
        now = instant(_app.current().env.now())
        screen = screen_of(sys.stdout)
        result = executions.preview_result(execution.exec_id)
        write(execution_lines(execution, calls, result, screen, now), screen)


def explain_calls(session: Session, exec_id: str, checkpoint: str | None) -> None:
    found = existing_client().executions.why(exec_id, checkpoint)
    if session.as_json:
        session.items([as_data(each) for each in found])
        return
    screen = screen_of(sys.stdout)
    write(why_lines(found, screen), screen)
    if not found:
        session.progress("no call is recorded yet")


def show_status(session: Session) -> None:
    existing_client()
    standing = gather(_app.current())
    item: dict[str, Any] = {
        "store": standing.info["location"],
        "bytes": standing.size.total,
        "project": standing.project,
        "schema_version": standing.info["schema_version"],
        "sqlite_version": standing.info["sqlite_version"],
        "executions": standing.executions,
        "outcomes": standing.recorded.calls,
        "growth": {**standing.growth._asdict(), "bytes_per_day": standing.bytes_per_day},
        "owners": [{"pid": owner.pid, "host": owner.host} for owner in standing.alive],
    }
    if session.as_json:
        session.item(item)
        return
    screen = screen_of(sys.stdout)
    write(status_lines(standing, screen), screen)
