"""Connections to one SQLite file: the only door to apsw.

One connection writes, by one thread at a time (the group commit sees to that);
a few others read. Every one is set to WAL and ``synchronous=FULL`` and the
setting is read back, because it belongs to the connection and not to the file.

What must never happen to a file that this process has open: that another
SQLite library, or plain ``open()``, touches it here. POSIX drops all locks of a
process on a file when it closes *any* handle on it. Hence ``os.stat`` and
nothing else, also for the check after each commit that the file on the path is
still the one that was written.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Callable

import apsw

from kitaru._core.keeping import keep_for_ever
from kitaru._store.facts import Conflict
from kitaru._store.rows import Row
from kitaru._store.sqlite.descriptors import Descriptors
from kitaru._store.sqlite.errors import (
    NOTHING_WRITTEN,
    backend_error,
    descriptors_lost,
    foreign,
    unreadable_text,
)
from kitaru._store.syncing import sync
from kitaru.env import process
from kitaru.errors import KitaruBackendError

OLDEST_SQLITE = (3, 51, 3)
"""The first release with the fix of the WAL-reset race (sqlite.org/wal.html#walresetbug)."""

APPLICATION_ID = 0x4B697461  # "Kita"

PAGE_BYTES = 4096
BUSY_MS = 30_000
# After so many pages SQLite copies the log into the database and begins it anew.
CHECKPOINT_PAGES = 1_000
WAL_LIMIT_BYTES = 32 * 1024 * 1024
# Syncing a log that grows costs twice what syncing one that is overwritten costs
# (300 against 155 us: the file system has its new length to write down too).
# So a process that writes more than a little makes the log as long as it gets.
LOG_BYTES = (CHECKPOINT_PAGES + 50) * (PAGE_BYTES + 24)
BEGINS_BEFORE_LOG_GROWS = 16
_SETTLED_NS = 50_000_000
"""Longer than any tick of a file system's clock."""
WRITER_CACHE_KIB = 16 * 1024
READER_CACHE_KIB = 2 * 1024
MAX_IDLE_READERS = 8
MAX_PROBLEMS = 10
STEPS_BETWEEN_LOOKS = 10_000
"""Steps of SQLite's machine between two looks at the clock: some 0.1 ms."""


def _lengthen(path: str, size: int) -> None:
    """Append zeros, really written, until the file has ``size`` bytes."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        missing = size - os.fstat(descriptor).st_size
        if missing > 0:
            os.write(descriptor, bytes(missing))
            sync(descriptor)
    finally:
        os.close(descriptor)


def check_library(version: str) -> None:
    """Refuse a SQLite that can corrupt a WAL file.

    >>> check_library("3.51.3")
    """
    if tuple(int(part) for part in version.split(".")) < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise KitaruBackendError(
            f"this apsw brings SQLite {version}, which can damage a database that two processes "
            f"write (fixed in {needed}): upgrade apsw to a release for SQLite {needed} or later",
            code="sqlite-too-old",
        )


def connect(path: str, *, cache_kib: int) -> apsw.Connection:
    """Open an existing database with every setting that durability needs, read back."""
    try:
        connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            configure(connection, path, cache_kib)
        except BaseException:
            connection.close()
            raise
    except apsw.Error as error:
        raise backend_error(error, path, "Nothing was changed") from error
    return connection


def configure(connection: apsw.Connection, path: str, cache_kib: int) -> None:
    connection.set_busy_timeout(BUSY_MS)
    if connection.pragma("application_id") != APPLICATION_ID:
        # Before anything is set: the journal mode is written into the file.
        raise foreign(path, "it is a database of another program")
    # Plans must not depend on bound values: else SQLite prepares a query anew
    # whenever it is bound (14 µs instead of 2 for a search by reuse key).
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    ask = connection.pragma
    ask("mmap_size", 0)
    ask("cache_size", -cache_kib)
    ask("temp_store", 2)
    ask("trusted_schema", 0)
    # The schema's references are for its readers: every row that names an
    # execution is selected from it in the same statement, and to have that
    # checked again costs 2.5 µs a checkpoint.
    ask("foreign_keys", 0)
    ask("synchronous", 2)
    if sys.platform == "darwin":
        # There fsync alone leaves the data in the drive's cache.
        ask("fullfsync", 1)
        ask("checkpoint_fullfsync", 1)
    mode = ask("journal_mode", "wal")
    ask("journal_size_limit", WAL_LIMIT_BYTES)
    connection.wal_autocheckpoint(CHECKPOINT_PAGES)
    if mode != "wal" or ask("synchronous") != 2:
        raise KitaruBackendError(
            f"the store {path} cannot be made durable: journal mode {mode!r}, synchronous "
            f"{ask('synchronous')}, where 'wal' and 2 were asked for. Is the folder on a network "
            "drive, or the file in use by a program that set another mode? Choose a local folder",
            code="store-not-durable",
        )


class Database:
    """The connections of one process to one file. See the module."""

    def __init__(self, path: str, now: Callable[[], int]) -> None:
        self.path = path
        self._now = now
        self._pid = process.id
        _refuse_inherited(path)
        self._descriptors = Descriptors(os.path.dirname(path))
        self._connection = connect(path, cache_kib=WRITER_CACHE_KIB)
        self._cursor = self._connection.cursor()
        self._execute = self._cursor.execute
        self._changes = self._connection.changes
        self._idle: list[apsw.Connection] = []
        self._watcher: apsw.Connection | None = None
        self._watching = threading.Lock()
        self._stopped: KitaruBackendError | None = None
        self._lost = False
        """Whether our descriptors were closed under us: then nothing here may be closed again."""
        self._closed = False
        self._begins_until_log_grows = BEGINS_BEFORE_LOG_GROWS
        self._wal_path = path + "-wal"
        # The log exists once something was read.
        self._execute("select 1 from sqlite_schema").fetchall()
        self._folder = os.path.dirname(path)
        self._verified: tuple[int, int, int] | None = None
        """The folder's stamp when its names were last seen to lead to our files."""
        self._file = _identity(path)
        self._wal = _identity(self._wal_path)
        self._descriptors.remember(path)
        _open_databases.add(self)

    # --- writing: one thread at a time ---

    def begin(self, *, wait: bool) -> bool:
        if self._stopped is not None:
            raise self._stopped
        if not self._descriptors.seem_open():
            raise self._lose()
        try:
            if wait:
                self._execute("BEGIN IMMEDIATE")
                if self._begins_until_log_grows:
                    self._grow_log_if_due()
                return True
            self._connection.set_busy_timeout(0)
            try:
                self._execute("BEGIN IMMEDIATE")
            finally:
                self._connection.set_busy_timeout(BUSY_MS)
        except apsw.BusyError as error:
            if not wait:
                return False
            raise backend_error(error, self.path) from error
        except apsw.Error as error:
            raise self._failed(error) from error
        if self._begins_until_log_grows:
            self._grow_log_if_due()
        return True

    def commit(self) -> None:
        try:
            self._execute("COMMIT")
        except apsw.Error as error:
            raise self._failed(error) from error

    def _run(self, sql: str) -> None:
        try:
            self._execute(sql)
        except apsw.Error as error:
            raise self._failed(error) from error

    def _grow_log_if_due(self) -> None:
        """Once, after a few transactions: make the log as long as it is going to be.

        Behind the last frame stand zeros then, which is where SQLite's recovery
        stops reading (tests/store/test_power_cut.py argues why that is safe). At
        the beginning of a transaction, because only under the write lock nobody
        else appends, and because what is interrupted here has not committed yet.
        The log file carries no locks, so opening and closing it drops none.
        """
        self._begins_until_log_grows -= 1
        if not self._begins_until_log_grows:
            # No room: it grows by itself then, as it would have.
            with contextlib.suppress(OSError):
                _lengthen(self._wal_path, LOG_BYTES)

    def rollback(self) -> None:
        # SQLite ends some failed transactions by itself; a ROLLBACK then fails.
        if self._connection.in_transaction:
            try:
                self._execute("ROLLBACK")
            except apsw.Error as error:
                self._stopped = backend_error(error, self.path)

    def is_open(self) -> bool:
        return self._connection.in_transaction

    def savepoint(self) -> None:
        self._run("SAVEPOINT one")

    def release(self) -> None:
        self._run("RELEASE one")

    def roll_back_to_savepoint(self) -> None:
        self._run("ROLLBACK TO one")
        self._run("RELEASE one")

    def change(self, sql: str, parameters: Row) -> int:
        try:
            self._execute(sql, parameters)
        except apsw.Error as error:
            raise self._translated(error) from error
        return self._changes()

    def rows(self, sql: str, parameters: Row) -> list[Row]:
        try:
            return self._execute(sql, parameters).fetchall()
        except apsw.Error as error:
            raise self._translated(error) from error
        except UnicodeDecodeError as error:
            raise unreadable_text(self.path) from error

    def _translated(self, error: apsw.Error) -> Exception:
        if isinstance(error, apsw.ConstraintError) and getattr(error, "extendedresult", 0) in (
            apsw.SQLITE_CONSTRAINT_UNIQUE,
            apsw.SQLITE_CONSTRAINT_PRIMARYKEY,
        ):
            return Conflict(str(error))
        if isinstance(error, (apsw.ConstraintError, apsw.BindingsError, apsw.MismatchError)):
            return error  # A bug of ours, of this write alone.
        return self._failed(error)

    def _failed(self, error: apsw.Error) -> KitaruBackendError:
        if not self._descriptors.are_open():
            return self._lose()
        return backend_error(error, self.path)

    def _lose(self) -> KitaruBackendError:
        """Touch nothing any more: the numbers of our descriptors may belong to other files.

        SQLite would write the log into them, and close them with its connections.
        """
        if self._stopped is None or not self._lost:
            self._lost = True
            self._stopped = descriptors_lost(self.path)
            _open_databases.discard(self)
            keep_for_ever(
                (self._connection, self._cursor, self._execute, self._idle, self._watcher)
            )
            self._idle = []
        return self._stopped

    def is_back(self) -> bool:
        """A file is not lost and found again: what failed stays failed."""
        return False

    def is_in_doubt(self) -> bool:
        return False

    def was_committed(self) -> bool:
        return False

    def verify(self) -> None:
        """Stop writing, for ever, if the path no longer leads to the file that was written.

        The folder is asked first: as long as no name in it has come, gone or
        changed, the names lead where they led. To look at the log itself after
        each commit would be dear: Linux gives a file whose times were asked for a
        finer stamp at its next write, and that made the next sync 65 us slower.
        """
        folder = _stamp(self._folder)
        if folder is not None and folder == self._verified:
            return
        try:
            same = _identity(self.path) == self._file and _identity(self._wal_path) == self._wal
        except OSError:
            same = False
        if same and folder is not None and self._now() * 1000 - folder[2] > _SETTLED_NS:
            # A change in the same tick of the file system's clock would leave the stamp as it is.
            self._verified = folder
        if not same:
            self._stopped = KitaruBackendError(
                f"the store {self.path} was moved, deleted or replaced while this process was "
                "writing to it: what was written last is not in the file that stands there now. "
                "This process writes no more. Put the folder back as it was and start the program "
                "again; never copy over or delete the database while a program uses it",
                code="store-replaced",
            )
            raise self._stopped

    # --- reading: any thread, each with its own connection ---

    def read(self, sql: str, parameters: Row) -> list[Row]:
        self.check_use()
        if not self._descriptors.seem_open():
            raise self._lose()
        connection = self._take_reader()
        try:
            return connection.execute(sql, parameters).fetchall()
        except apsw.Error as error:
            if not self._descriptors.are_open():
                raise self._lose() from error
            raise backend_error(error, self.path, "Nothing was changed") from error
        except UnicodeDecodeError as error:
            raise unreadable_text(self.path) from error
        finally:
            self._give_back(connection)

    def _take_reader(self) -> apsw.Connection:
        # The list's methods are atomic: a connection is in one thread's hands.
        try:
            return self._idle.pop()
        except IndexError:
            connection = connect(self.path, cache_kib=READER_CACHE_KIB)
            connection.pragma("query_only", 1)
            return connection

    def _give_back(self, connection: apsw.Connection) -> None:
        if self._lost:
            keep_for_ever(connection)
        elif self._closed or len(self._idle) >= MAX_IDLE_READERS:
            connection.close()
        else:
            self._idle.append(connection)

    def data_version(self) -> int:
        """A number that changes with every commit of anybody, this process included.

        SQLite counts what *other* connections commit, so one connection is kept for
        asking alone. It costs a look at the log's shared memory, and no read.
        """
        self.check_use()  # before the lock: a fork may have copied it locked
        with self._watching:
            self.check_use()
            if not self._descriptors.seem_open():
                raise self._lose()
            try:
                if self._watcher is None:
                    self._watcher = connect(self.path, cache_kib=0)
                return int(self._watcher.pragma("data_version"))
            except apsw.Error as error:
                raise self._failed(error) from error

    def check_integrity(self, seconds: float | None) -> tuple[list[str], bool]:
        """(what SQLite's quick check finds, whether it came to its end within ``seconds``)."""
        self.check_use()
        connection = connect(self.path, cache_kib=READER_CACHE_KIB)
        ends_at = None if seconds is None else self._now() + int(seconds * 1e6)
        try:
            connection.set_progress_handler(
                lambda: ends_at is not None and self._now() > ends_at, STEPS_BETWEEN_LOOKS
            )
            rows = connection.execute(f"pragma quick_check({MAX_PROBLEMS})").fetchall()
            found = [str(row[0]) for row in rows]
            return [] if found == ["ok"] else found, True
        except apsw.InterruptError:
            return [], False
        except apsw.Error as error:
            return [str(error)], True
        finally:
            connection.close()

    # --- life ---

    def check_use(self) -> None:
        """Refuse a forked child and a closed store."""
        if process.id != self._pid:
            raise _inherited_error(self.path)
        if self._closed:
            raise KitaruBackendError(
                f"the store {self.path} was closed: open it again", code="store-closed"
            )

    def is_usable(self) -> bool:
        return not self._closed and not self._lost and process.id == self._pid

    def close(self) -> None:
        if not self.is_usable():
            return
        self._closed = True
        _open_databases.discard(self)
        while self._idle:
            self._idle.pop().close()
        with self._watching:
            if self._watcher is not None:
                self._watcher.close()
        self._connection.close()
        self._descriptors.close()

    def _leak(self) -> None:
        # Closing would drop the locks that SQLite believes it holds here, and
        # could delete the parent's log.
        _inherited_files.add(self._file)
        _leaked.append((self._connection, self._cursor, self._execute, self._idle, self._watcher))


def _identity(path: str) -> tuple[int, int]:
    stat = os.stat(path)
    return stat.st_dev, stat.st_ino


def _stamp(folder: str) -> tuple[int, int, int] | None:
    """(device, inode, time of the last change of a name in it) of a folder."""
    try:
        stat = os.stat(folder)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns


_open_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_leaked: list[object] = []
_inherited_files: set[tuple[int, int]] = set()


def _after_fork_in_child() -> None:
    for database in list(_open_databases):
        database._leak()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _inherited_error(path: str) -> KitaruBackendError:
    return KitaruBackendError(
        f"the store {path} was opened by a process of which this one is a fork, and SQLite does "
        "not survive a fork. Start the child with multiprocessing's 'spawn' method (or "
        "subprocess), or fork before Kitaru is used. " + NOTHING_WRITTEN,
        code="store-forked",
    )


def _refuse_inherited(path: str) -> None:
    """A forked child must not open the file anew either.

    SQLite keeps what it believes to be locked in memory, for the process and
    the file; the child has that belief, but not the locks.
    """
    try:
        if _inherited_files and _identity(path) in _inherited_files:
            raise _inherited_error(path)
    except FileNotFoundError:
        return
