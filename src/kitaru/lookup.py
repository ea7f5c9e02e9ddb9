"""Which execution somebody means: from what a person typed to one row, or a list's bounds.

Refuses what can mean nothing before the store is asked, and lists the
candidates where it could mean several. Knows nothing of what follows.
"""

from __future__ import annotations

from datetime import UTC, datetime

from kitaru._core.lifecycle import State
from kitaru._core.names import did_you_mean, shortened
from kitaru._store.protocol import ExecutionRow, Store
from kitaru.errors import (
    KitaruNotFoundError,
    KitaruStateError,
    KitaruUsageError,
    KitaruValueError,
)
from kitaru.status import ExecutionStatus

MAX_LIMIT = 10_000
MAX_CANDIDATES = 10

MAX_GUESSED = 200

_MAX_ID_CHARACTERS = 36
_LEAST_CHARACTERS_TO_GUESS = 6
_LEAST_LIKENESS = 0.8


def find_row(store: Store, project: str, exec_id: str) -> ExecutionRow:
    """The row of the one execution whose id is, or contains, ``exec_id``.

    Raises ``KitaruNotFoundError`` if there is none, ``KitaruStateError`` that
    lists the candidates if there are several.
    """
    part = _checked_part(exec_id)
    try:
        row = store.find_execution(part)
        if row is not None:
            return of_project(row, project)
    except KitaruValueError:
        # Its inputs or result are damaged: the search below marks them, and goes on.
        pass
    rows = store.search_executions(part, project=project, limit=MAX_CANDIDATES + 1)
    if len(rows) == 1:
        return rows[0]
    if not rows:
        _refuse_deleted(store, part)
        raise KitaruNotFoundError(
            f"no execution {shortened(exec_id)} in project {project!r} of this "
            f"store: {_nearest(store, project, part)}see `kitaru executions list`",
            code="execution-not-found",
        )
    listed = "".join(
        f"\n  {row.exec_id}  {row.flow_name}  {row.status}" for row in rows[:MAX_CANDIDATES]
    )
    more = "\n  and more" if len(rows) > MAX_CANDIDATES else ""
    raise KitaruStateError(
        f"{shortened(exec_id)} fits several executions: write more of the id{listed}{more}",
        code="execution-id-ambiguous",
    )


def of_project(row: ExecutionRow, project: str) -> ExecutionRow:
    """``row``, unless another project in the same store has it: to this one it is not there."""
    if row.project == project:
        return row
    raise KitaruNotFoundError(
        f"no execution {row.exec_id} in project {project!r} of this store: it belongs to project "
        f"{row.project!r}. To work on that, say KITARU_PROJECT={row.project}",
        code="execution-not-found",
    )


def _refuse_deleted(store: Store, exec_id: str) -> None:
    gone = store.find_tombstone(exec_id)
    if gone is not None:
        deleted_at = datetime.fromtimestamp(gone.deleted_at / 1e6, UTC)
        raise KitaruNotFoundError(
            f"execution {gone.exec_id} of flow {gone.flow_name} was deleted on "
            f"{deleted_at:%Y-%m-%d at %H:%M:%S} UTC; it was {gone.status}. To see what is there, "
            "run kitaru executions list",
            code="execution-deleted",
        )


def _nearest(store: Store, project: str, part: str) -> str:
    """Which execution a longer part of an id was meant to be, if one is near enough."""
    if len(part) < _LEAST_CHARACTERS_TO_GUESS:
        return ""
    import difflib

    def likeness(exec_id: str) -> float:
        ends = (exec_id, exec_id[: len(part)], exec_id[-len(part) :])
        return max(difflib.SequenceMatcher(None, part, end).ratio() for end in ends)

    ids = [head.exec_id for head in store.list_heads(project=project, limit=MAX_GUESSED)]
    best = max(ids, key=likeness, default=None)
    near = best is not None and likeness(best) >= _LEAST_LIKENESS
    return f"did you mean {best}? " if near else ""


def _checked_part(exec_id: object) -> str:
    if not isinstance(exec_id, str):
        raise KitaruUsageError(
            f"exec_id is {shortened(exec_id)}: pass an execution's id as a str",
            code="execution-not-found",
        )
    part = exec_id.strip().lower()
    if not part:
        raise KitaruUsageError(
            "exec_id is empty: pass an execution's id, or a part of it", code="execution-not-found"
        )
    if len(part) > _MAX_ID_CHARACTERS or not set(part) <= set("0123456789abcdef-"):
        raise KitaruNotFoundError(
            f"{shortened(exec_id)} is no execution's id (hex digits and dashes): "
            "see `kitaru executions list`",
            code="execution-not-found",
        )
    return part


def id_prefix_at(at: datetime) -> str:
    """What ids made at this instant or later do not sort before (RFC 9562: they begin with it).

    >>> id_prefix_at(datetime.fromisoformat("1970-01-01T00:00:01Z"))
    '00000000-03e8'
    """
    digits = f"{max(0, int(at.timestamp() * 1000)):012x}"
    return f"{digits[:8]}-{digits[8:]}"


def checked_limit(limit: object) -> int:
    """``limit`` if it is a number that a list may have, else ``KitaruUsageError``."""
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_LIMIT:
        raise KitaruUsageError(
            f"limit={shortened(limit)}: pass a number from 1 to {MAX_LIMIT:,}",
            code="option-invalid",
        )
    return limit


def checked_status(status: str | None) -> ExecutionStatus | None:
    """The status of that name, or ``KitaruUsageError`` that lists them."""
    if status is None:
        return None
    try:
        return ExecutionStatus(status)
    except ValueError:
        raise KitaruUsageError(
            f"status={shortened(status)}: pass one of {', '.join(ExecutionStatus)}."
            + did_you_mean(str(status), ExecutionStatus),
            code="option-invalid",
        ) from None


def stored_as(status: ExecutionStatus | None) -> tuple[State, ...]:
    """As what executions that show this status are recorded; empty means any."""
    if status is None:
        return ()
    if status is ExecutionStatus.INTERRUPTED:
        return (State.RUNNING,)
    return (State(status.value),)
