"""The connection that writes to a store in PostgreSQL, and what is done when it is lost.

By one thread at a time: the group commit sees to that.

A transaction is begun when its first statement is sent, together with its receipt: the
number of it, in the row of this process in ``receipts``. Where the connection goes while it
commits, the number that stands there tells whether it was recorded; whoever asks waits for
the row's lock, so that a transaction that still lives has ended before. A write that is one
statement needs no transaction, and goes to the server and back once: what it records tells
by itself whether it was recorded (``single.py``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import LiteralString

import psycopg
from psycopg import errors as pg

from kitaru._store.facts import Conflict
from kitaru._store.postgres.connecting import BOUNDS, Bounds
from kitaru._store.postgres.connection import BEGIN, Answer, Connection, Statement
from kitaru._store.postgres.connections import LOOK_SECONDS, Connections
from kitaru._store.postgres.errors import (
    backend_error,
    in_doubt,
    is_away,
    is_ours,
    may_be_done_anew,
)
from kitaru._store.rows import Row
from kitaru.env import Env
from kitaru.errors import KitaruBackendError

MAX_LOSSES = 5
"""Transactions lost in a row before their failure is told: something is wrong with them."""

_CONFLICTS = (pg.UniqueViolation, pg.ExclusionViolation)

_RECEIPT: LiteralString = """
insert into kitaru.receipts as mine (process, number) values ($1, $2)
on conflict (process) do update set number = excluded.number, at = default
where mine.number < excluded.number"""

_SWEEP: LiteralString = """
delete from kitaru.receipts where process in (
    select process from kitaru.receipts
    where at < clock_timestamp() - interval '7 days' for update skip locked)"""

# A row that is not committed yet is waited for too, which a mere look would not do.
_LAST_RECEIPT: LiteralString = """
insert into kitaru.receipts as mine (process, number) values ($1, 0)
on conflict (process) do update set at = default returning number"""


class Database(Connections):
    """The connections, of which one writes. See the module."""

    def __init__(
        self,
        url: str,
        env: Env | None = None,
        *,
        bounds: Bounds = BOUNDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        super().__init__(url, env, bounds=bounds, look_seconds=look_seconds)
        self._writer: Connection | None = None
        self._in_transaction = False
        self._wanted = False
        """Whether a transaction is to be begun by the next statement."""
        self._ahead: list[Statement] = []
        """What goes in one message with the next statement, before it."""
        self.single = False
        """Whether the next write is one statement, which needs no transaction around it."""
        self._has_savepoint = False
        self._process = self._env.random_bytes(16)
        self._number = 0
        """Of the last transaction that was begun."""
        self._doubt: int | None = None
        """The number of the transaction that may have been committed, or not."""
        self._was_committed = False
        """What became of the last transaction that was in doubt."""
        self._is_committing = False
        self._may_be_done_anew = False
        self._losses = 0
        self.words: set[str] = set()
        """What others are told of the transaction that is open, once it is committed."""
        self.tell: Callable[[set[str]], None] = lambda words: None

    # --- the connection that writes ---

    def _open_writer(self, connect: Callable[[], Connection]) -> Connection:
        writer = self._writer
        if writer is None or writer.closed:
            writer = self._writer = connect()
            if self._doubt is not None:
                self._resolve(writer)
        return writer

    def _resolve(self, writer: Connection) -> None:
        """Find out whether the transaction in doubt was committed, before another is begun."""
        number = self._doubt
        assert number is not None
        try:
            found = writer.ask(_LAST_RECEIPT, (self._process,)).rows
        except psycopg.Error as error:
            self._drop_writer()
            raise in_doubt(error, self.place) from error
        self._was_committed = found[0][0] >= number
        self._doubt = None

    def _ask_writer(self, sql: str, parameters: Row = ()) -> Answer:
        """Ask on the connection that writes, after what waits to go ahead."""
        writer = self._writer
        if writer is None or writer.closed:
            writer = self._open_writer(self.connect)
        if not self._ahead:
            return writer.ask(sql, parameters)
        together = [*self._ahead, (sql, parameters)]
        self._ahead = []
        answers = writer.ask_all(together)
        for (asked, _), answer in zip(together, answers, strict=True):
            assert asked is not _RECEIPT or answer.touched == 1, "a later number stands there"
        return answers[-1]

    # --- writing: one thread at a time ---

    def begin(self, *, wait: bool) -> bool:
        """A transaction begins with its first statement. ``wait`` false: nobody waits here, so
        nothing is sent: whoever cannot wait for a network commits elsewhere."""
        if not wait:
            return False
        self._wanted, self._has_savepoint = True, False
        return True

    def _begin_now(self) -> None:
        """With the receipt, which takes the lock by which a doubt is resolved. Nothing is sent
        yet: it goes ahead of the first statement."""
        writer = self._open_writer(self.connect)
        self._wanted = False
        self._number += 1
        self._ahead = [(each, ()) for each in writer.begin]
        self._ahead.append((_RECEIPT, (self._process, self._number)))
        if self._number == 1:
            self._ahead.append((_SWEEP, ()))
        self._in_transaction = True

    def commit(self) -> None:
        self._wanted = False
        if not self._in_transaction:
            self._losses = 0  # a statement alone: it is done
            self._tell()
            return
        self._is_committing = True
        try:
            done = self._ask_writer("commit")
        except psycopg.Error as error:
            self._is_committing = False
            if not is_away(error):
                raise self._failed(error) from error
            self._recognise(error)
        else:
            self._is_committing = False
            if done.tag != b"COMMIT":
                # What failed inside was not told to us, or we would not be here.
                self._in_transaction = False
                raise AssertionError(f"a transaction ended with {done.tag.decode()}")
        self._in_transaction = False
        self._losses = 0
        self._tell()

    def _tell(self) -> None:
        if self.words:
            words, self.words = self.words, set()
            self.tell(words)

    def _recognise(self, error: psycopg.Error) -> None:
        """The connection went while it committed: ask what became of it, on another one."""
        self._drop_writer()
        self._doubt = self._number
        try:
            self._open_writer(self._connect_anew)
        except KitaruBackendError:
            raise in_doubt(error, self.place) from error
        if not self._was_committed:
            self._may_be_done_anew = True
            raise backend_error(error, self.place) from error

    def is_back(self) -> bool:
        """Whether what just failed was lost as a whole, and may be done anew on a server that is
        there: the group commit asks, and then does it."""
        if not self._may_be_done_anew or self._losses >= MAX_LOSSES:
            self._may_be_done_anew = False
            return False
        self._may_be_done_anew = False
        self._losses += 1
        try:
            self._open_writer(self._connect_anew)
        except KitaruBackendError:
            return False
        return True

    def is_in_doubt(self) -> bool:
        return self._doubt is not None

    def was_committed(self) -> bool:
        """What became of the transaction that was in doubt; raises while that cannot be known."""
        if self._doubt is not None:
            self._open_writer(self.connect)
        return self._was_committed

    def rollback(self) -> None:
        self._wanted = False
        self.words.clear()
        if not self._in_transaction:
            return
        self._in_transaction = False
        ahead, self._ahead = self._ahead, []
        if ahead and ahead[0][0] == BEGIN:
            return  # nothing of it was sent
        try:
            self._ask_writer("rollback")
        except (psycopg.Error, KitaruBackendError):
            self._drop_writer()

    def is_open(self) -> bool:
        if self._is_committing:
            return self._is_still_open()
        return self._in_transaction

    def _is_still_open(self) -> bool:
        """Somebody was interrupted (Ctrl-C) while it committed."""
        self._is_committing = False
        self._drop_writer()
        self._doubt = self._number
        try:
            return not self.was_committed()
        except KitaruBackendError:
            return True

    def savepoint(self) -> None:
        self.ahead("savepoint one")
        self._has_savepoint = True

    def release(self) -> None:
        self.ahead("release savepoint one")
        self._has_savepoint = False

    def roll_back_to_savepoint(self) -> None:
        self.ahead("rollback to savepoint one")
        self.release()

    def ahead(self, sql: str, parameters: Row = ()) -> None:
        """A statement of a transaction whose answer nobody needs: it goes ahead of the next, in
        one message with it. If it fails, that fails."""
        if self._wanted:
            self._begin_now()
        self._ahead.append((sql, parameters))

    def change(self, sql: str, parameters: Row) -> int:
        return self._send(sql, parameters).touched

    def change_all(self, sql: str, rows: Sequence[Row]) -> list[int] | None:
        """Run it for each, in one message, as one transaction that is committed by then; how many
        rows each has changed, or None if one of them is wrong: then nothing is done."""
        self._wanted = False
        assert not self._in_transaction
        try:
            answers = self._open_writer(self.connect).ask_all([(sql, row) for row in rows])
        except psycopg.Error as error:
            if is_ours(error):
                self._wanted = True
                return None
            raise self._failed(error) from error
        return [answer.touched for answer in answers]

    def rows(self, sql: str, parameters: Row) -> list[Row]:
        if self._in_transaction or self._wanted:
            return self._send(sql, parameters).rows
        # A mere read, while nobody commits: it may be asked twice.
        try:
            return self._send(sql, parameters).rows
        except KitaruBackendError:
            if not self.is_back():
                raise
            return self._send(sql, parameters).rows

    def _send(self, sql: str, parameters: Row) -> Answer:
        try:
            if self._wanted and not self.single:
                self._begin_now()
            return self._ask_writer(sql, parameters)
        except _CONFLICTS as error:
            self._undo()
            raise Conflict(str(error.diag.constraint_name)) from error
        except psycopg.Error as error:
            if is_ours(error):
                raise  # A bug of ours, of this write alone.
            raise self._failed(error) from error

    def _undo(self) -> None:
        """After a conflict the transaction takes no statement: back to before this write, so
        that its refusal can say what stands there."""
        if not self._in_transaction:
            return
        if self._has_savepoint:
            self.ahead("rollback to savepoint one")
        else:
            self._begin_now()
            self._ahead.insert(0, ("rollback", ()))

    def _failed(self, error: psycopg.Error) -> KitaruBackendError:
        self._may_be_done_anew = may_be_done_anew(error)
        if is_away(error):
            self._drop_writer()
        return backend_error(error, self.place)

    def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        self._in_transaction = False
        self._ahead = []
        if writer is not None:
            with contextlib.suppress(psycopg.Error):
                writer.close()

    def verify(self) -> None:
        """The server answered the commit: there is nothing more to look at."""

    # --- life ---

    def close(self) -> None:
        if self.is_usable():
            self._drop_writer()
        super().close()

    def _leak(self) -> None:
        super()._leak()
        self._writer = None
