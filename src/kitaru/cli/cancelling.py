"""``kitaru executions cancel`` at work: cancel, then wait until the code has stopped."""

from __future__ import annotations

from collections.abc import Sequence

from kitaru.cli.output import Session, print_text
from kitaru.cli.place import insist_on_store
from kitaru.cli.shown import as_data
from kitaru.client import Executions, KitaruClient
from kitaru.errors import (
    KitaruError,
    KitaruExecutionError,
    KitaruStateError,
    KitaruTimeoutError,
)
from kitaru.model import Execution
from kitaru.status import ExecutionStatus

FIRST_NEWS_SECONDS = 2.0
NEWS_SECONDS = 10.0


def perform(session: Session, parts: Sequence[str], reason: str | None, *, wait: bool) -> int:
    """Cancel each -> the exit status: 1 if one of them had ended already."""
    insist_on_store()
    executions = KitaruClient().executions
    # All are looked for first: a mistyped id cancels nothing.
    rows = [executions.find_row(part) for part in parts]
    found: list[Execution] = []
    refused: list[KitaruError] = []
    for row in rows:
        try:
            found.append(executions.cancel(row.exec_id, reason=reason))
        except KitaruStateError as error:
            refused.append(error)
    if wait:
        found = [_stopped(session, executions, each) for each in found]
    _report(session, found)
    for each in refused:
        session.fail(each)
    return 1 if refused else 0


def _stopped(session: Session, executions: Executions, execution: Execution) -> Execution:
    """Wait until its code has stopped, saying now and then that it has not."""
    exec_id = execution.exec_id
    pause_seconds = FIRST_NEWS_SECONDS
    while execution.status is ExecutionStatus.CANCELLING:
        try:
            executions.handle(exec_id).wait(pause_seconds)
        except KitaruTimeoutError:
            session.progress(
                f"execution {exec_id} is cancelling: its code has not stopped yet "
                "(Ctrl-C does not wait for it)"
            )
            pause_seconds = NEWS_SECONDS
        except KitaruExecutionError:
            pass  # That is what was asked for.
        execution = executions.get(exec_id)
    return execution


def _report(session: Session, found: Sequence[Execution]) -> None:
    if session.as_json:
        session.items([as_data(each) for each in found])
        return
    for each in found:
        print_text(f"execution {each.exec_id} of flow {each.flow_name!r} is {each.status}")
