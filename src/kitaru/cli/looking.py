"""``kitaru executions list`` at work: what was asked for, found, counted and shown."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any, NamedTuple

from kitaru._core.names import nearest
from kitaru.cli.canvas import screen_of, write
from kitaru.cli.families import together
from kitaru.cli.listing import Listed, drawn_lines, plain_lines
from kitaru.cli.output import Session
from kitaru.cli.place import existing
from kitaru.cli.shown import (
    as_data,
)
from kitaru.cli.times import looks_like_time, parse_time
from kitaru.looking import Looking
from kitaru.lookup import MAX_GUESSED, MAX_LIMIT, checked_limit
from kitaru.model import Execution

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
    place = existing()
    executions, now = place.executions, place.now
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
        write(drawn_lines(together(listed), screen, now, absolute=absolute), screen)
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


def _counted(executions: Looking, execution: Execution) -> Listed:
    completed, failed = executions.count_calls(execution.exec_id, limit=MAX_COUNTED)
    return Listed(execution, completed, failed, completed + failed >= MAX_COUNTED)


def _listed_as_data(each: Listed) -> dict[str, Any]:
    item: dict[str, Any] = as_data(each.execution)
    return item | {"calls": {"completed": each.completed, "failed_attempts": each.failed}}


def _nothing(executions: Looking, wanted: Wanted) -> str:
    if wanted == Wanted(None, None, None, (), None, None, wanted.limit):
        return "no executions yet: run a flow, for example `kitaru run my_flows.py:hello`"
    if wanted.flow is not None:
        heads = executions.heads(limit=MAX_GUESSED)
        names = {name for head in heads for name in (head.flow_name, head.flow_id)}
        if wanted.flow not in names and (meant := nearest(wanted.flow, names)):
            return f"no executions of a flow {wanted.flow!r}; did you mean {meant!r}?"
    return "no executions like that"
