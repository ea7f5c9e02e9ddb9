"""Writes that are one statement: they need no transaction, and some of them go in one message.

What one statement has recorded tells by itself whether it was recorded, so a connection that
goes meanwhile leaves no doubt for long. Records that are made at once by many threads or tasks
go together: a message, an answer and a commit for all of them, where each in a savepoint of a
transaction would go back and forth three times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from kitaru._store.blobs import INLINE_BYTES
from kitaru._store.facts import Session
from kitaru._store.postgres.claims import ClaimWrites
from kitaru._store.postgres.connection import can_ask_together
from kitaru._store.protocol import NO_FACTS, Record, Refused, Start, Started, Write
from kitaru._store.queries import Queries
from kitaru._store.rows import Row, Rows
from kitaru.errors import KitaruBackendError

_ONLY_CALLS = NO_FACTS[1:]

MAX_DOUBTFUL = 10_000
"""Writes that nobody came back for, at most."""


class Place(Session, Protocol):
    """What writes ask of the connection on which they are done."""

    single: bool
    """Whether the next write is one statement, which needs no transaction around it."""
    words: set[str]
    """What others are to be told once it is committed."""

    def is_open(self) -> bool: ...

    def ahead(self, sql: str, parameters: Row = ()) -> None:
        """Let a statement go ahead of the next; nobody needs what it answers."""
        ...

    def change_all(self, sql: str, rows: Sequence[Row]) -> list[int] | None:
        """Run it for each, in one message, as one transaction that is committed by then; how many
        rows each has changed, or None if one of them is wrong: then nothing is done."""
        ...

    def is_back(self) -> bool: ...


class SingleWrites(ClaimWrites):
    def __init__(self, session: Place, queries: Queries, rows: Rows) -> None:
        super().__init__(session, queries, rows)
        self._database = session
        self._doubtful: dict[int, Write] = {}
        """Writes of one statement whose connection went, by identity: perhaps recorded."""

    def perform_single(self, write: Write) -> Any:
        if self._database.is_open():
            # Among others, in their transaction.
            return self._again_or_first(write)
        self._database.single = True
        try:
            return self._again_or_first(write)
        except KitaruBackendError as error:
            if not self._database.single:
                raise  # It became a transaction: whoever commits does it anew as a whole.
            return self._recover(write, error)
        finally:
            self._database.single = False

    def _again_or_first(self, write: Write) -> Any:
        return self._perform_again(write) if id(write) in self._doubtful else self._do(write)

    def _do(self, write: Write) -> Any:
        """As on every database."""
        return super().perform(write)

    # --- many at once ---

    def perform_together(self, writes: Sequence[Write]) -> list[Exception | None] | None:
        if not can_ask_together() or not all(map(self._may_go_along, writes)):
            return None
        self._database.single = True
        try:
            return self._record_all(writes)  # type: ignore[arg-type]
        except BaseException:  # interrupted, too: perhaps they are committed
            self._doubt(*writes)
            raise
        finally:
            self._database.single = False

    def _may_go_along(self, write: Write) -> bool:
        return type(write) is Record and is_single(write) and id(write) not in self._doubtful

    def _record_all(self, writes: Sequence[Record]) -> list[Exception | None] | None:
        # In the order of the executions whose rows they lock: others may lock several, too.
        ordered = sorted(range(len(writes)), key=lambda n: writes[n].execution)
        rows = [
            self._call_values(writes[n].execution, writes[n].epoch, writes[n].facts.calls[0])
            for n in ordered
        ]
        try:
            changed = self._database.change_all(self._add_call, rows)
        except KitaruBackendError:
            if not self._database.is_back():
                raise
            return [self._refusal(each, again=True) for each in writes]
        if changed is None:
            return None
        refused = {n for n, count in zip(ordered, changed, strict=True) if not count}
        return [self._refusal(each) if n in refused else None for n, each in enumerate(writes)]

    def _refusal(self, write: Record, *, again: bool = False) -> Exception | None:
        """Why it was not recorded; ``again``: it may have been, and is to be now."""
        try:
            if not again:
                self._refuse_call(write.execution, write.epoch, write.facts.calls[0])
            try:
                self._perform_again(write)
            except KitaruBackendError as error:
                self._recover(write, error)
        except KitaruBackendError:
            raise
        except Exception as refusal:
            return refusal
        return None

    # --- one statement, and its connection is gone ---

    def _recover(self, write: Write, error: KitaruBackendError) -> Any:
        """The statement may have been done, and nobody heard of it: it is done again, which
        waits for the one that is under way, and recognises what it recorded."""
        while self._database.is_back():
            try:
                return self._perform_again(write)
            except KitaruBackendError as again:
                error = again
        if error.code == "store-away":
            self._doubt(write)
        raise error

    def _doubt(self, *writes: Write) -> None:
        for write in writes:
            self._doubtful[id(write)] = write
            if len(self._doubtful) > MAX_DOUBTFUL:
                del self._doubtful[next(iter(self._doubtful))]

    def _perform_again(self, write: Write) -> Any:
        try:
            answer = self._do(write)
        except Refused:
            if not self.stands(write):
                raise
            answer = None
        if isinstance(write, Start) and (answer is None or not answer.created):
            answer = self._started_by(write) or answer
        self._doubtful.pop(id(write), None)
        return answer

    def stands(self, write: Write) -> bool:
        """Whether what stands there is what this very write has recorded.

        Also where the execution has gone on since: it was recorded while its owner was.
        """
        if isinstance(write, Start):
            return self._started_by(write) is not None
        assert isinstance(write, Record)
        (call,) = write.facts.calls
        values = (
            write.execution,
            call.identity,
            call.attempt,
            call.started_at,
            call.ended_at,
            call.payload.digest,
        )
        return bool(self._select(self._queries.find_recorded, values))

    def _started_by(self, write: Start) -> Started | None:
        found = self._select(self._queries.execution_by_exec_id, (write.exec_id,))
        if not found:
            return None
        return Started(self._rows.execution(found[0], strict=True), created=True)


def is_single(write: Write) -> bool:
    """Whether the write is one statement: the record of one call, a flow that begins.

    Not with a large value: its blob has to stay locked until the row that names it is there.
    """
    if type(write) is Record:
        calls = write.facts.calls
        return (
            len(calls) == 1
            and write.facts[1:] == _ONLY_CALLS
            and len(calls[0].payload.data) <= INLINE_BYTES
        )
    return (
        type(write) is Start
        and write.parent_exec_id is None
        and write.original_exec_id is None
        and len(write.inputs.data) <= INLINE_BYTES
    )
