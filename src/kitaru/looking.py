"""Looking at executions: found, listed, shown as records, explained. Runs and changes nothing.

Needs a store and a way to tell who lives, and no engine: the command line shows
a list before it could have been loaded. ``client.py`` adds what acts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kitaru._core.checks import check_strings, check_text
from kitaru._core.lifecycle import FINISHED, State
from kitaru._core.names import shortened
from kitaru._store.logs import LogStore
from kitaru._store.protocol import ExecutionRow, Head, Store
from kitaru.env import SystemEnv
from kitaru.errors import KitaruNotFoundError, KitaruUsageError
from kitaru.lookup import checked_limit, checked_status, find_row, id_prefix_at, stored_as
from kitaru.model import ArtifactRef, CheckpointCall, Execution, LogEntry, PendingWait, Why
from kitaru.pending import Pending
from kitaru.records import (
    artifacts_of,
    calls_of,
    execution_of,
    pending_wait_of,
    pending_waits_of,
    shown_inputs,
    status_of,
)
from kitaru.status import ExecutionStatus

if TYPE_CHECKING:
    from kitaru.logs import Reader

DEFAULT_LIMIT = 100

_PAGE = 200

Found = list[Execution]
Calls = list[CheckpointCall]
Reasons = list[Why]
Entries = list[LogEntry]
Waits = list[PendingWait]
Artifacts = list[ArtifactRef]
list_of = list
"""Inside the class ``list`` is a method."""


class Looking:
    """The half of ``client.executions`` that changes nothing.

    ``root`` is the project whose code counts; ``is_alive`` tells whether the
    process of that number lives.
    """

    def __init__(
        self,
        store: Store,
        *,
        project: str,
        root: str | None,
        is_alive: Callable[[int | None], bool],
        logs: LogStore | None = None,
    ) -> None:
        self._store = store
        self._project = project
        self._root = root
        self._is_alive = is_alive
        self._logs = logs

    def get(self, exec_id: str) -> Execution:
        """The execution as it is now.

        Raises ``KitaruNotFoundError`` if there is none, and ``KitaruStateError``
        with the candidates if the part of an id fits several.
        """
        return self._record(self.find_row(exec_id), self._liveness())

    def list(
        self,
        *,
        flow: str | None = None,
        status: ExecutionStatus | str | None = None,
        limit: int = DEFAULT_LIMIT,
        tags: Sequence[str] = (),
        before: str | datetime | None = None,
        since: datetime | None = None,
        key: str | None = None,
    ) -> Found:
        """Executions, newest first; at most ``limit``.

        ``flow`` is a flow's name or id; ``tags`` must all be there; ``before``
        is an execution (or part of its id) or an instant: those that are older
        than it; ``since`` an instant: those that are not. An instant is an
        aware datetime.
        """
        wanted = checked_status(status)
        for option, text in (("flow", flow), ("key", key)):
            check_text(option, text)
        tags = check_strings("tags", tags)
        _check_instant("since", since)
        if not isinstance(before, str):
            _check_instant("before", before)
        found: Found = []
        limit = checked_limit(limit)
        alive = self._liveness()
        last = self._row_at(before) if isinstance(before, datetime) else None
        if isinstance(before, str):
            last = self.find_row(before).id
        first = None if since is None else self._row_at(since)
        if since is not None and first is None:
            return []
        pending = self._pending(alive)
        while len(found) < limit:
            rows = self._store.list_executions(
                project=self._project,
                flow=flow,
                statuses=stored_as(wanted),
                before=last,
                since=first,
                key=key,
                limit=_PAGE,
            )
            for row in rows:
                if wanted is not None and status_of(row, alive) is not wanted:
                    continue
                execution = self._record(row, alive, pending)
                if set(tags) <= set(execution.tags):
                    found.append(execution)
                    if len(found) == limit:
                        break
            if len(rows) < _PAGE:
                break
            last = rows[-1].id
        return found

    def _row_at(self, at: datetime) -> int | None:
        """The row of the first execution that began at this instant or later; None: none did."""
        return self._store.first_from(id_prefix_at(at))

    def latest(
        self, *, flow: str | None = None, status: ExecutionStatus | str | None = None
    ) -> Execution:
        """The newest execution, or ``KitaruNotFoundError``."""
        found = self.list(flow=flow, status=status, limit=1)
        if not found:
            of = "" if flow is None else f" of flow {flow!r}"
            being = "" if status is None else f" that is {status}"
            raise KitaruNotFoundError(
                f"there is no execution{of}{being} in project {self._project!r}: "
                "run a flow first, or see `kitaru executions list`",
                code="execution-not-found",
            )
        return found[0]

    def list_children(self, exec_id: str, *, limit: int = DEFAULT_LIMIT) -> Found:
        """The executions that were started inside this one, oldest first; at most ``limit``.

        Those that were found by their key have another parent, or none.
        """
        row = self.find_row(exec_id)
        alive = self._liveness()
        rows = self._store.list_children(row.exec_id, limit=checked_limit(limit))
        return [self._record(child, alive) for child in rows]

    def list_checkpoints(self, exec_id: str) -> Calls:
        """The recorded calls of an execution, in the order in which they were made."""
        return calls_of(self._store, self.find_row(exec_id))

    def list_artifacts(self, exec_id: str) -> Artifacts:
        """What the checkpoints of an execution saved and returned; see ``client.artifacts``."""
        return list_of(artifacts_of(self._store, self.find_row(exec_id)))

    def logs(
        self,
        exec_id: str,
        *,
        checkpoint: str | None = None,
        source: str = "step",
        limit: int | None = None,
    ) -> Entries:
        """What the execution printed and logged, in every life, oldest first.

        ``checkpoint`` is a checkpoint's name or id, or the id of one call; ``source`` all of
        it (``step``), or one of ``stdout``, ``stderr``, ``logging``; ``limit`` how many of the
        newest. What was dropped, because there was too much, is told by an entry of source
        ``runner``. After ``wait()`` everything is there; of what runs, all but the last 0.1 s.
        Raises ``KitaruNotFoundError`` for a checkpoint that the execution never called, and
        ``KitaruLogRetrievalError`` where the log cannot be read.

        >>> import kitaru
        >>> @kitaru.checkpoint
        ... def fetch(page: int) -> int:
        ...     print("fetching page", page)
        ...     return page
        >>> @kitaru.flow
        ... def crawl() -> list[int]:
        ...     return [fetch(1), fetch(2)]
        >>> handle = crawl.run()
        >>> handle.wait()
        fetching page 1
        fetching page 2
        [1, 2]
        >>> [entry.message for entry in kitaru.KitaruClient().executions.logs(handle.exec_id)]
        ['fetching page 1', 'fetching page 2']
        """
        check_text("checkpoint", checkpoint)
        if limit is not None:
            checked_limit(limit)
        row = self.find_row(exec_id)
        reader = self.read_logs(row, checkpoint=checkpoint, source=source)
        found = list(reader.last(limit))
        if checkpoint is not None and not found and row.status in FINISHED:
            from kitaru.why import choose_calls

            choose_calls(self.list_checkpoints(row.exec_id), checkpoint, row.exec_id)
        return found

    def read_logs(
        self,
        row: ExecutionRow,
        *,
        checkpoint: str | None = None,
        source: str = "step",
        level: str | None = None,
    ) -> Reader:
        """The log of an execution, to be read on as it grows."""
        # Loaded here, as below: a list need not wait for it.
        from kitaru.logs import Reader, Wanted

        return Reader(self._logs, row, Wanted(checkpoint, source, level))

    def why(self, exec_id: str, checkpoint: str | None = None) -> Reasons:
        """Why each call of a checkpoint ran or was reused; without one, every call.

        ``checkpoint`` is its name, its id, or the id of one call. How inputs
        differ is told for the first 1,000 calls.

        >>> import kitaru
        >>> @kitaru.checkpoint(cache=False)
        ... def guess() -> int:
        ...     return 6
        >>> @kitaru.flow
        ... def game() -> int:
        ...     return guess()
        >>> handle = game.run()
        >>> handle.wait()
        6
        >>> for why in kitaru.KitaruClient().executions.why(handle.exec_id, "guess"):
        ...     print(why.source, "-", why.reason)
        ran - switched off by @checkpoint(cache=False)
        """
        # Loaded here: 20 ms that a list need not wait for.
        from kitaru.differences import Comparison
        from kitaru.why import choose_calls, explain_call

        row = self.find_row(exec_id)
        calls = choose_calls(calls_of(self._store, row), checkpoint, row.exec_id)
        comparison = Comparison(
            self._store,
            project=self._project,
            flow_id=row.flow_id,
            execution=row.id,
        )
        return [explain_call(call, self._root, comparison) for call in calls]

    def pending_waits(self, exec_id: str) -> Waits:
        """What the execution waits for, oldest first; empty if nothing is to be answered."""
        row = self.find_row(exec_id)
        return pending_waits_of(row, self._store.list_waits(row.id))

    def all_pending_waits(self, *, limit: int = DEFAULT_LIMIT) -> Waits:
        """What all executions of the project wait for, oldest first."""
        found = self._store.list_open_waits(project=self._project, limit=checked_limit(limit))
        return [pending_wait_of(each.exec_id, each.flow_name, each.wait) for each in found]

    # --- for the command line ------------------------------------------------------------

    def count_calls(self, exec_id: str, *, limit: int) -> tuple[int, int]:
        """(calls that succeeded, attempts that failed), of ``limit`` recorded ones at most."""
        return self._store.count_outcomes(exec_id, limit=limit)

    def preview_result(self, exec_id: str) -> Any:
        """The recorded result as plain JSON data, at most 4 KiB of it; None if there is none."""
        return shown_inputs(self.find_row(exec_id).result)

    def heads(self, *, limit: int) -> Sequence[Head]:
        """The names of the newest executions: what somebody may have meant."""
        return self._store.list_heads(project=self._project, limit=limit)

    def find_row(self, exec_id: str) -> ExecutionRow:
        """The row of the one execution whose id is, or contains, ``exec_id``."""
        return find_row(self._store, self._project, exec_id)

    def _now(self) -> int:
        return SystemEnv().now()

    def _pending(self, alive: Callable[[int | None], bool]) -> Pending:
        return Pending(self._store, self._project, now=self._now(), is_alive=alive)

    def _record(
        self,
        row: ExecutionRow,
        alive: Callable[[int | None], bool],
        pending: Pending | None = None,
    ) -> Execution:
        return execution_of(
            row,
            status=status_of(row, alive),
            is_left=row.status is State.CANCELLING and not alive(row.owner),
            notes=self._store.list_notes(row.id),
            attempts=self._store.list_attempts(row.id),
            client=self,
            waits=self._store.list_waits(row.id),
            waits_for=(pending or self._pending(alive)).reason(row),
        )

    def _liveness(self) -> Callable[[int | None], bool]:
        """Whether an owner lives; each is probed once."""
        known: dict[int | None, bool] = {}

        def alive(owner: int | None) -> bool:
            if owner not in known:
                known[owner] = self._is_alive(owner)
            return known[owner]

        return alive


def _check_instant(option: str, at: object) -> None:
    """Refuse what is neither None nor an aware datetime."""
    if at is None or (isinstance(at, datetime) and at.tzinfo is not None):
        return
    without = " has no time zone" if isinstance(at, datetime) else ""
    raise KitaruUsageError(
        f"{option}={shortened(at)}{without}: pass an aware datetime", code="option-invalid"
    )
