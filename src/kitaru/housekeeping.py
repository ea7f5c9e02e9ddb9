"""Housekeeping of a store: what is past its time goes, and what only that needed.

Every step is a small transaction that is whole in itself, in an order that a kill may cut
anywhere: first an execution is gone for who reads, then its log and its rows, then the
files that no row names any more. What a kill leaves over, the next collection finds. Needs a
store and no engine; who asks, and how it is shown, is not decided here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from kitaru._core.lifecycle import FINISHED
from kitaru._store.logs import LogStore
from kitaru._store.protocol import (
    AlreadyRecorded,
    Delete,
    DropBlobs,
    ExecutionRow,
    Fenced,
    Import,
    Missing,
    NotInState,
    Store,
    Sweep,
)
from kitaru.env import Env
from kitaru.errors import KitaruStateError, KitaruUsageError

if TYPE_CHECKING:
    from kitaru.transfer import Exported

GRACE_SECONDS = 3_600
"""How old a file must be before it may go: whoever writes a value names it long before."""

_ROWS = 500
"""Rows removed in one transaction: some milliseconds, in which nobody else commits."""
_BLOBS = 100
_PAGE = 200
_TRIES = 5

Progress = Callable[[str], None]


class Collected(NamedTuple):
    """What a collection removed, or, of a dry run, what it would remove."""

    executions: tuple[str, ...]
    """Ids of those past their retention, and of their children."""
    kept: int
    """Past their retention too, but needed by one that is not finished."""
    rows: int
    """Rows removed; a dry run does not count them."""
    blobs: int
    bytes: int
    """Of those files."""
    is_dry_run: bool


def _silent(_: str) -> None:
    return


class Housekeeper:
    def __init__(self, store: Store, logs: LogStore | None, env: Env) -> None:
        self._store = store
        self._logs = logs
        self._env = env

    # --- one execution ---

    def delete(self, row: ExecutionRow) -> list[str]:
        """Delete a finished execution and its children -> the ids that are gone."""
        try:
            gone = self._hide(row)
        except NotInState as refused:
            raise _not_deletable(row, refused) from refused
        except (Fenced, Missing) as refused:
            raise KitaruStateError(
                f"execution {row.exec_id} has changed meanwhile ({refused}): look at it again",
                code="execution-not-deletable",
            ) from refused
        for exec_id in gone:
            self._clear(exec_id)
        return gone

    def _hide(self, row: ExecutionRow) -> list[str]:
        gone: list[str] = self._store.apply(Delete(row.id, row.epoch, self._env.now()))
        return gone

    def _clear(self, exec_id: str) -> int:
        """Remove the log and the rows of an execution that is hidden -> how many rows."""
        if self._logs is not None:
            self._logs.delete(exec_id)
        rows = 0
        while True:
            removed: int = self._store.apply(Sweep(exec_id, _ROWS))
            rows += removed
            if removed < _ROWS:
                return rows

    # --- one execution, elsewhere ---

    def export(self, row: ExecutionRow, path: str) -> Exported:
        """Write a finished execution and its children to one file."""
        from kitaru import transfer  # rare, and it loads what reads archives

        return transfer.export(self._store, row, path, self._env)

    def import_(self, path: str, project: str) -> list[ExecutionRow]:
        """Record what a file holds -> the executions, the one that was exported first.

        They keep their ids where these are free, and get new ones where they are not.
        """
        from kitaru import transfer

        bundles = transfer.read(path)
        for exec_id in self._store.list_unswept(limit=_PAGE):
            self._clear(exec_id)  # its id may be among them
        for _ in range(_TRIES):
            new = transfer.adapted(bundles, self._store, project, self._env)
            with contextlib.suppress(AlreadyRecorded):  # somebody was quicker: look again
                rows: list[ExecutionRow] = self._store.apply(Import(new))
                return rows
        raise KitaruStateError(
            f"what {path} holds is being imported by somebody else: see kitaru executions list, "
            "then try again",
            code="execution-not-imported",
        )

    # --- all that is past its time ---

    def collect(
        self,
        *,
        dry_run: bool = False,
        grace_seconds: float = GRACE_SECONDS,
        progress: Progress = _silent,
    ) -> Collected:
        """Remove what is past its retention and what nothing needs any more."""
        before = self._env.now() - int(_checked_grace(grace_seconds) * 1e6)
        if dry_run:
            return self._planned(before)
        rows = self._clear_hidden(progress)
        gone: list[str] = []
        kept = 0
        for row in self._expired():
            try:
                hidden = self._hide(row)
            except (Fenced, Missing, NotInState):
                kept += 1  # it is needed, or was retried a moment ago: another time
                continue
            rows += sum(self._clear(exec_id) for exec_id in hidden)
            gone += hidden
            progress(f"{len(gone):,} executions removed")
        blobs, size = self._drop_blobs(before, progress)
        self._store.drop_leftovers(before=before)
        return Collected(tuple(gone), kept, rows, blobs, size, is_dry_run=False)

    def _planned(self, before: int) -> Collected:
        gone: list[str] = []
        kept = 0
        for row in self._expired():
            family = list(self._family(row))
            if all(member.status in FINISHED for member in family):
                gone += [member.exec_id for member in family]
            else:
                kept += 1
        stray = self._store.list_stray_blobs(before=before)
        size = sum(size for _, size in stray)
        return Collected(tuple(gone), kept, 0, len(stray), size, is_dry_run=True)

    def _family(self, row: ExecutionRow) -> Iterator[ExecutionRow]:
        yield row
        for child in self._store.list_children(row.exec_id, limit=10_000):
            yield from self._family(child)

    def _expired(self) -> Iterator[ExecutionRow]:
        now = self._env.now()
        after = (-1, 0)
        while rows := self._store.list_expired(at=now, after=after, limit=_PAGE):
            yield from rows
            last = rows[-1]
            assert last.ended_at is not None
            assert last.keep_seconds is not None
            after = (last.ended_at + last.keep_seconds * 1_000_000, last.id)

    def _clear_hidden(self, progress: Progress) -> int:
        """What an earlier collection, or a deletion, was killed over."""
        rows = 0
        while left := self._store.list_unswept(limit=_PAGE):
            progress("going on where an earlier collection stopped")
            rows += sum(self._clear(exec_id) for exec_id in left)
        return rows

    def _drop_blobs(self, before: int, progress: Progress) -> tuple[int, int]:
        sizes = dict(self._store.list_stray_blobs(before=before))
        digests = list(sizes)
        count = size = 0
        for start in range(0, len(digests), _BLOBS):
            dropped = self._store.apply(DropBlobs(tuple(digests[start : start + _BLOBS])))
            count += len(dropped)
            size += sum(sizes[digest] for digest in dropped)
            progress(f"{count:,} of {len(digests):,} large values removed")
        return count, size


def _checked_grace(seconds: object) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e9:
        raise KitaruUsageError(
            f"grace_seconds={seconds!r}: pass a number of seconds, 0 or more", code="option-invalid"
        )
    return float(seconds)


def _not_deletable(row: ExecutionRow, refused: NotInState) -> KitaruStateError:
    if row.status not in FINISHED:
        how = f"it is {row.status}"
    else:
        how = str(refused).partition(": ")[2]
    return KitaruStateError(
        f"execution {row.exec_id} is not deleted: {how}. Wait for that one's end, or cancel it "
        "(kitaru executions cancel), then delete again",
        code="execution-not-deletable",
    )
