"""``kitaru executions decide`` at work: one decision, and who goes on from there."""

from __future__ import annotations

import json
from typing import Any

from kitaru import decisions
from kitaru.cli.answering import Wanted, go_on
from kitaru.cli.output import Session
from kitaru.cli.place import existing
from kitaru.errors import KitaruUsageError


def perform(
    session: Session,
    exec_id: str,
    call: str,
    decision: str,
    *,
    value: str | None,
    record: str | None,
    resume: bool,
    code: str | None,
    by: str | None,
) -> int:
    """Decide -> the exit status."""
    place = existing()
    row = place.executions.find_row(exec_id)
    given = decisions.NO_VALUE if value is None else _read(value)
    found, stands = decisions.decide(
        place.store, place.env, row, call, decision, record=record, value=given, by=by
    )
    if decision == "abort":
        session.progress(f"execution {row.exec_id} is {stands.status}: it was aborted")
        if session.as_json:
            session.item({"exec_id": row.exec_id, "call": found.row.label, "decision": decision,
                          "status": stands.status.value})  # fmt: skip
        return 0
    wanted = Wanted(exec_id, None, None, False, False, resume, code, by)
    return go_on(session, place, stands, [found], wanted)


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise KitaruUsageError(
            f"--value is no JSON ({error}): a text needs quotes, --value '\"receipt-7\"'",
            code="command-line-invalid",
        ) from None
