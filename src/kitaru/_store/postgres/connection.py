"""A connection: how a statement of ours goes over it, and what bounds the wait for its answer.

``ask`` sends by libpq's own calls and prepares what recurs. To make a cursor, count its query
and convert its rows took longer than a server nearby takes to answer a small question (a record
0.38 ms, a bare insert and commit 0.29, the same record by ``ask`` 0.29). Values are adapted by
psycopg all the same, so that both ways write and read the same.
"""

from __future__ import annotations

from asyncio import _get_running_loop
from collections.abc import Callable, Generator, Sequence
from typing import Any, LiteralString, NamedTuple, TypeVar, cast

import psycopg
from psycopg import pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.waiting import Ready, Wait

from kitaru._store.rows import Row

PREPARE_AFTER = 3
"""Uses of a statement, after which it is prepared: most are asked once or twice in a life."""

PREPARED_STATEMENTS = 400
"""Kept a connection: more than there are queries, so that they come to an end."""

BEGIN: LiteralString = "begin isolation level read committed"
"""Whatever the default of the database is: a write that locks and then looks has to see, under
the lock, what others have committed while it waited."""

_V = TypeVar("_V")
_AUTO = [PyFormat.AUTO] * 64
_BINARY = pq.Format.BINARY
_OK = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)
_Key = tuple[str, tuple[int, ...] | None]
_Results = list[pq.abc.PGresult]
_Talk = Generator[Wait, Ready | int, _V]


Statement = tuple[str, Row]
"""What is asked, and its values."""


class Answer(NamedTuple):
    """What came of a statement."""

    rows: list[Row]
    touched: int
    """How many rows it has returned or changed."""
    tag: bytes
    """How the server calls what it did: ``b"COMMIT"``."""


class _Question(NamedTuple):
    """A statement on its way."""

    sql: str
    name: bytes | None
    """Under which it is prepared, or (``is_new``) is to be now."""
    is_new: bool
    values: Sequence[Any]
    types: tuple[int, ...] | None
    formats: Sequence[pq.Format] | None


class _Asked:
    """What one session has prepared, by the text and the types of its values."""

    __slots__ = ("_given", "names", "transformer", "uses")

    def __init__(self, adapters: Any) -> None:
        self.transformer = Transformer(adapters)
        self.names: dict[_Key, bytes] = {}
        self.uses: dict[_Key, int] = {}
        self._given = 0

    def new_name(self) -> bytes:
        """One that was given to nothing before, also to nothing that failed."""
        self._given += 1
        return b"kitaru_%d" % self._given


class Connection(psycopg.Connection[Row]):
    """A connection that commits each statement by itself, and waits for no answer for ever."""

    is_pooled = False
    begin: tuple[LiteralString, ...] = (BEGIN,)
    """Statements that open a transaction with its bounds."""
    local_bounds: LiteralString = ""
    """Statements that bound what is left of a transaction which was begun without."""
    clock: Callable[[], float]
    answer_seconds: float | None = None
    held: Callable[[], object]
    """Called when an event loop is to wait for an answer."""
    _asked: _Asked | None = None

    # --- statements of ours ---

    def ask(self, sql: str, parameters: Row = ()) -> Answer:
        """Run one statement; it raises what ``execute`` raises.

        A connection is either asked or lent to cursors: what those roll back may throw out what
        is prepared, and it is not looked for.
        """
        if _get_running_loop() is not None:
            self.held()
        with self.lock:
            return super().wait(self._question(sql, parameters))

    def ask_all(self, statements: Sequence[Statement]) -> list[Answer]:
        """Run several in one message; of the first that fails the error, and none follows it.

        Where no transaction is open and none of them begins one, they are one: committed when
        this returns, and nothing of it is where it raises. (``can_ask_together``)
        """
        if len(statements) == 1 or not can_ask_together():
            return [self.ask(*each) for each in statements]
        if _get_running_loop() is not None:
            self.held()
        with self.lock:
            return super().wait(self._questions(statements))

    def _question(self, sql: str, parameters: Row) -> _Talk[Answer]:
        asked = self._what_is_asked()
        new: dict[_Key, bytes] = {}
        question = self._put(asked, sql, parameters, new)
        if question.is_new:
            self._send_prepare(question)
            _check(*(yield from self._results()))
            asked.names.update(new)
        self._send(question)
        (result,) = _check(*(yield from self._results()))
        return self._answer(result)

    def _questions(self, statements: Sequence[Statement]) -> _Talk[list[Answer]]:
        asked, pgconn = self._what_is_asked(), self.pgconn
        new: dict[_Key, bytes] = {}
        questions = [self._put(asked, *each, new) for each in statements]
        pgconn.enter_pipeline_mode()
        for question in questions:
            # In its place among them: what goes before may have to end a failed transaction.
            if question.is_new:
                self._send_prepare(question)
            self._send(question)
        pgconn.pipeline_sync()
        results = yield from self._results(together=True)
        if pgconn.status == pq.ConnStatus.OK:
            pgconn.exit_pipeline_mode()
        # All of them: the commit that follows the last statement may fail, too.
        _check(*results)
        asked.names.update(new)
        answered = iter(results)
        answers = []
        for question in questions:
            if question.is_new:
                next(answered)
            answers.append(self._answer(next(answered)))
        return answers

    def _put(self, asked: _Asked, sql: str, parameters: Row, new: dict[_Key, bytes]) -> _Question:
        """A statement with its values as they go over the line, and its name if it has one."""
        values: Sequence[Any] = ()
        types = formats = None
        if parameters:
            transformer = asked.transformer
            values = transformer.dump_sequence(parameters, _AUTO[: len(parameters)])
            types, formats = transformer.types, transformer.formats
        key = (sql, types)
        name = asked.names.get(key) or new.get(key)
        is_new = name is None and self._recurs(asked, key)
        if is_new:
            name = new[key] = asked.new_name()
        return _Question(sql, name, is_new, values, types, formats)

    def _send_prepare(self, question: _Question) -> None:
        assert question.name is not None
        self.pgconn.send_prepare(question.name, question.sql.encode(), question.types)

    def _send(self, question: _Question) -> None:
        sql, name, _, values, types, formats = question
        if name is None:
            self.pgconn.send_query_params(sql.encode(), values, types, formats, _BINARY)
        else:
            self.pgconn.send_query_prepared(name, values, formats, _BINARY)

    def _answer(self, result: pq.abc.PGresult) -> Answer:
        rows: list[Row] = []
        if result.ntuples:
            transformer = self._what_is_asked().transformer
            transformer.set_pgresult(result)
            rows = transformer.load_rows(0, result.ntuples, tuple)
        return Answer(rows, result.command_tuples or 0, result.command_status or b"")

    def _what_is_asked(self) -> _Asked:
        if self._asked is None:
            self._asked = _Asked(self.adapters)
        return self._asked

    def _recurs(self, asked: _Asked, key: _Key) -> bool:
        """Whether it is to be prepared now; behind a pooler nothing is."""
        if self.is_pooled or len(asked.names) >= PREPARED_STATEMENTS:
            return False
        uses = asked.uses[key] = asked.uses.get(key, 0) + 1
        return uses > PREPARE_AFTER

    def _results(self, *, together: bool = False) -> _Talk[_Results]:
        """All that the server answers to what was sent, ``together`` up to the end of them all."""
        pgconn = self.pgconn
        quiet_until: float | None = None
        wanted = Wait.RW if pgconn.flush() else Wait.R
        results: _Results = []
        while True:
            # What was sent a moment ago has no answer yet: there is no use in looking first.
            ready = yield wanted
            if not ready:  # or None: somebody was interrupted, and has cancelled it
                quiet_until = self._bear_silence(quiet_until)
                continue
            quiet_until = None
            if ready & Ready.R:
                try:
                    pgconn.consume_input()
                except psycopg.OperationalError as error:
                    return _lost(results, error)
            if wanted == Wait.RW and not pgconn.flush():
                wanted = Wait.R
            while not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    if pgconn.status != pq.ConnStatus.OK:
                        return _lost(results)
                    if not together:
                        return results
                elif result.status == pq.ExecStatus.PIPELINE_SYNC:
                    return results
                else:
                    results.append(result)

    # --- what bounds every wait, of cursors too ---

    def wait(self, gen: Any, interval: float = 0.1, *more: Any, **options: Any) -> Any:
        if _get_running_loop() is not None:
            self.held()
        return super().wait(self._bounded(gen), interval, *more, **options)

    def _bounded(self, gen: Generator[Any, Any, _V]) -> Generator[Any, Any, _V]:
        """``gen``, ended once nothing has come for too long. The clock is asked only at a pause."""
        quiet_until: float | None = None
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                quiet_until = self._bear_silence(quiet_until) if ready == Ready.NONE else None
                wanted = gen.send(ready)
        except StopIteration as stop:
            value: _V = stop.value
            return value

    def _bear_silence(self, until: float | None) -> float | None:
        """Nothing has come for a moment -> until when that may go on."""
        if self.answer_seconds is None:
            return None
        now = self.clock()
        if until is None:
            return now + self.answer_seconds
        if now > until:
            raise psycopg.OperationalError(f"no answer within {self.answer_seconds:g} seconds")
        return until


def can_ask_together() -> bool:
    """Whether libpq can: the one of psycopg's wheels, and each from 14 on."""
    return psycopg.capabilities.has_pipeline()


def _lost(results: _Results, error: psycopg.OperationalError | None = None) -> _Results:
    """The connection is gone before the end of an answer, without which nothing is committed: the
    results if the server has said there why it leaves, else the error."""
    if any(each.status == pq.ExecStatus.FATAL_ERROR for each in results):
        return results
    raise error or psycopg.OperationalError("the connection is lost")


def _check(*results: pq.abc.PGresult) -> _Results:
    """The results, or the error that stands among them."""
    for result in results:
        if result.status not in _OK:
            raise error_from_result(result)
    return list(results)


def literal(sql: str) -> LiteralString:
    """A statement of ours, which is a literal of some file: nothing of a user is in it."""
    return cast("LiteralString", sql)  # type: ignore[redundant-cast]  # not to pyright
