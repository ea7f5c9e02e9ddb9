"""``kitaru executions input`` at work: one answer, an abort, or a sweep over all that waits."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from kitaru import answering
from kitaru._core.json_schema import find_problems
from kitaru._core.lifecycle import WaitKind, WaitState
from kitaru._core.names import shortened
from kitaru._engine import asking, forms
from kitaru._engine.asking import LeftOpen, Question, Terminal, Withdrawn
from kitaru._store.protocol import ExecutionRow, Owner, RecordedWait
from kitaru.cli.output import Session
from kitaru.cli.place import Place, existing
from kitaru.cli.times import ago, full
from kitaru.errors import KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.records import instant, wait_id

MAX_SWEPT = 1_000


class Wanted(NamedTuple):
    """What a person asked this command for."""

    exec_id: str | None
    wait: str | None
    value: str | None
    abort: bool
    interactive: bool
    resume: bool
    code: str | None
    by: str | None


def perform(session: Session, wanted: Wanted) -> int:
    """Answer, abort or ask -> the exit status."""
    _check(session, wanted)
    place = existing()
    if wanted.value is None and not wanted.abort:
        return _interactive(session, place, wanted)
    assert wanted.exec_id is not None
    row = place.executions.find_row(wanted.exec_id)
    wait = wanted.wait if wanted.wait is not None else _only_wait(place, row)
    if wanted.abort:
        found, cancelled = answering.abort(place.store, place.env, row, wait, by=wanted.by)
        _report_abort(session, place, row, found, dict(cancelled))
        return 0
    assert wanted.value is not None
    value = _read(place, row, wait, wanted.value)
    found, stands = answering.answer(place.store, place.env, row, wait, value, by=wanted.by)
    return go_on(session, place, stands, [found], wanted)


def _check(session: Session, wanted: Wanted) -> None:
    chosen = [wanted.value is not None, wanted.abort, wanted.interactive]
    if sum(chosen) > 1:
        raise _usage("--value, --abort and --interactive are three things: give one of them")
    if not any(chosen) and (session.as_json or not asking.is_somebody_there()):
        raise _usage("there is no answer: give --value JSON, or --abort, or --interactive")
    if wanted.exec_id is None and (wanted.value is not None or wanted.abort):
        raise _usage("which execution? Name it: kitaru executions input ID --wait NAME …")
    if wanted.abort and wanted.resume:
        raise _usage("an aborted wait cancels its execution: leave out --resume")
    if wanted.interactive and (session.as_json or not asking.is_somebody_there()):
        raise _usage("--interactive asks in a terminal, and here is none: give --value JSON")


def _usage(message: str) -> KitaruUsageError:
    return KitaruUsageError(message, code="command-line-invalid")


def _only_wait(place: Place, row: ExecutionRow) -> str:
    """The wait that is meant where none is named: the only one that is open."""
    waits = place.executions.pending_waits(row.exec_id)
    if len(waits) == 1:
        return waits[0].wait_id
    if not waits:
        asked = [each for each in place.store.list_waits(row.id) if each.row.kind is WaitKind.INPUT]
        if len(asked) == 1:
            return wait_id(row.exec_id, asked[0])  # refused, with who was first
        raise KitaruStateError(
            f"execution {row.exec_id} waits for nothing: see kitaru executions get {row.exec_id}",
            code="wait-closed",
        )
    listed = "".join(f"\n  {each.name}  {each.wait_id}" for each in waits)
    raise KitaruStateError(
        f"execution {row.exec_id} waits for several things: name one with --wait{listed}",
        code="wait-ambiguous",
    )


def _read(place: Place, row: ExecutionRow, wait: str, text: str) -> Any:
    """``--value``: JSON, or else the text itself where a text is asked for."""
    schema = _schema(answering.find_open(place.store, row, wait))
    return forms.read(text, schema, lambda data, part: not find_problems(data, part))


def _schema(found: RecordedWait) -> dict[str, Any] | None:
    try:
        schema = json.loads(found.row.schema or "null")
    except (ValueError, RecursionError):
        return {}
    return schema if schema is None or isinstance(schema, dict) else {}


# --- what comes of it ----------------------------------------------------------------------


def go_on(
    session: Session, place: Place, row: ExecutionRow, answered: list[RecordedWait], wanted: Wanted
) -> int:
    """Say who takes it from here, or run it here -> the exit status."""
    owner = _served_by(place, row)
    for found in answered:
        session.progress(f"answered {found.row.label!r} of execution {row.exec_id}")
    if wanted.resume:
        # The engine opens the store for itself.
        place.store.close()
        from kitaru.cli import running

        return running.resume_or_follow(session, row.exec_id, wanted.code, served=owner is not None)
    session.progress(_who_goes_on(place, row, owner))
    if session.as_json:
        session.item(_item(place, row, answered[-1], "answered", owner))
    return 0


def _served_by(place: Place, row: ExecutionRow) -> Owner | None:
    """The live process that runs the execution, or has parked it and will go on with it."""
    for number in (row.owner, row.home):
        if number is not None and place.is_alive(number):
            return place.store.get_owner(number)
    return None


def _who_goes_on(place: Place, row: ExecutionRow, owner: Owner | None) -> str:
    waits = place.executions.pending_waits(row.exec_id)
    if waits:
        names = ", ".join(each.name for each in waits[:5])
        return f"it still waits for {names}: kitaru executions input {row.exec_id} --interactive"
    if owner is not None:
        return f"process {owner.pid} on {owner.host} goes on with it"
    return (
        "no live process serves it (unless a worker does); run it here: "
        f"kitaru executions resume {row.exec_id}"
    )


def _report_abort(
    session: Session,
    place: Place,
    row: ExecutionRow,
    found: RecordedWait,
    cancelled: dict[str, Any],
) -> None:
    stands = place.executions.find_row(row.exec_id)
    below = len(cancelled) - 1
    children = f", and {below} below it" if below > 0 else ""
    session.progress(
        f"aborted {found.row.label!r}: execution {row.exec_id} is {stands.status}{children}"
    )
    if session.as_json:
        session.item(_item(place, stands, found, "aborted", None))


def _item(
    place: Place, row: ExecutionRow, found: RecordedWait, state: str, owner: Owner | None
) -> dict[str, Any]:
    closed = place.store.find_wait(row.id, found.row.identity) or found
    return {
        "exec_id": row.exec_id,
        "wait_id": wait_id(row.exec_id, found),
        "name": found.row.label,
        "state": state,
        "by": closed.closed_by,
        "at": None if closed.closed_at is None else instant(closed.closed_at).isoformat(),
        "status": row.status.value,
        "served_by": None if owner is None else {"pid": owner.pid, "host": owner.host},
    }


# --- asking ----------------------------------------------------------------------------------


class _Quit(Exception):
    pass


def _interactive(session: Session, place: Place, wanted: Wanted) -> int:
    """Ask for one execution's waits, or for all of the project, oldest first."""
    questions = list(_questions(place, wanted))
    if not questions:
        session.progress("nothing waits for an answer")
        return 0
    answered: dict[str, list[RecordedWait]] = {}
    terminal = Terminal()
    for number, (row, found) in enumerate(questions, 1):
        if len(questions) > 1:
            terminal.say(f"{number} of {len(questions)}, waiting since {_since(place, found)}")
        try:
            if _ask(place, terminal, row, found, wanted, several=len(questions) > 1):
                answered.setdefault(row.exec_id, []).append(found)
        except _Quit:
            break
    status = 0
    for exec_id, waits in answered.items():
        row = place.executions.find_row(exec_id)
        last = exec_id == next(reversed(answered))
        # What is run here takes the store along: only the last one is.
        chosen = wanted if last else wanted._replace(resume=False)
        status = go_on(session, place, row, waits, chosen)
    return status


def _questions(place: Place, wanted: Wanted) -> list[tuple[ExecutionRow, RecordedWait]]:
    if wanted.exec_id is None:
        if wanted.wait is not None:
            raise _usage("--wait names a wait of one execution: name the execution, too")
        every = place.store.list_open_waits(project=place.project, limit=MAX_SWEPT)
        return [
            (place.executions.find_row(each.exec_id), each.wait)
            for each in every
            if each.wait.row.kind is WaitKind.INPUT
        ]
    row = place.executions.find_row(wanted.exec_id)
    if wanted.wait is not None:
        return [(row, answering.find_open(place.store, row, wanted.wait))]
    waits = place.store.list_waits(row.id)
    still_open = place.executions.pending_waits(row.exec_id)
    return [
        (row, each)
        for each in waits
        if still_open and each.state is WaitState.OPEN and each.row.kind is WaitKind.INPUT
    ]


def _ask(
    place: Place,
    terminal: Terminal,
    row: ExecutionRow,
    found: RecordedWait,
    wanted: Wanted,
    *,
    several: bool,
) -> bool:
    """Ask one question -> whether it was answered."""
    question = Question(row.id, row.exec_id, row.flow_name, found.row)
    expires_at = found.row.expires_at
    until = None if expires_at is None else full(instant(expires_at))

    def look() -> None:
        now = place.store.find_wait(row.id, found.row.identity)
        if now is None or now.state is not WaitState.OPEN:
            by = f" by {now.closed_by}" if now is not None and now.closed_by else ""
            state = "gone" if now is None else now.state
            raise Withdrawn(f"{found.row.label}: {state}{by} meanwhile")

    try:
        look()
        terminal.forget()
        terminal.say(asking.introduction(question, instant=until))
        if several and not _wants_to(terminal, look):
            return False
        data = asking.put(question, terminal, look)
        answering.answer(
            place.store, place.env, row, wait_id(row.exec_id, found, 64), data, by=wanted.by
        )
        return True
    except forms.Declined:
        terminal.say("left open; to cancel the execution: --abort")
    except LeftOpen:
        terminal.say("left open")
        raise _Quit from None
    except (Withdrawn, KitaruStateError, KitaruNotFoundError) as error:
        terminal.say(f"\n{error}")
    return False


def _wants_to(terminal: Terminal, look: Any) -> bool:
    while True:
        text = terminal.read("answer, skip or quit? (A/s/q) ", look).strip().casefold()
        if text in ("", "a", "answer"):
            return True
        if text in ("s", "skip"):
            return False
        if text in ("q", "quit"):
            raise _Quit
        terminal.say(f"! {shortened(text)} is none of the three")


def _since(place: Place, found: RecordedWait) -> str:
    return ago(instant(found.row.opened_at), place.now)
