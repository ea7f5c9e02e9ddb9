"""Group commit: one transaction and one fsync for everyone who writes at once.

The thread that finds nobody committing leads: it commits its own write and all
that were queued meanwhile, then hands the lead to one who waits. Each write of
a group stands in its own savepoint, so that a refused one fails alone; a write
that is alone needs none. This file knows threads and transactions; it does not
know what a write means.

Locks: ``_mutex`` guards the queue and who leads, is held for a few list
operations and never while the database is asked. The lead itself is not a lock
but a field, so that whoever is interrupted can see whether it has to be passed
on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Protocol, get_args

from kitaru._store.doubts import Doubts
from kitaru._store.protocol import Write
from kitaru.errors import KitaruBackendError

MAX_GROUP = 1_000
"""Writes in one transaction, at most: a bound on how long a reader's snapshot ages."""

WRITES: tuple[type, ...] = get_args(Write)

BEFORE_COMMIT = {write: f"before_commit:{write.__name__}" for write in WRITES}
AFTER_COMMIT = {write: f"after_commit:{write.__name__}" for write in WRITES}

CRASH_POINTS: tuple[str, ...] = (
    "before_begin",
    *BEFORE_COMMIT.values(),
    *AFTER_COMMIT.values(),
)


class Transactions(Protocol):
    """What a group commit asks of a database: one connection, used by one thread at a time."""

    def begin(self, *, wait: bool) -> bool:
        """Take the write lock; False if ``wait`` is false and another process has it."""
        ...

    def commit(self) -> None: ...

    def rollback(self) -> None:
        """End the transaction if there still is one; never raises over it."""
        ...

    def is_open(self) -> bool: ...

    def savepoint(self) -> None: ...

    def release(self) -> None: ...

    def roll_back_to_savepoint(self) -> None: ...

    def is_back(self) -> bool:
        """Whether what just failed was lost as a whole, and may be done anew now."""
        ...

    def is_in_doubt(self) -> bool:
        """Whether nobody knows yet if the last transaction was committed."""
        ...

    def was_committed(self) -> bool:
        """What became of the transaction that was in doubt; raises while that is not known."""
        ...

    def verify(self) -> None:
        """Raise if what was committed did not go where readers look for it."""
        ...


Done = Callable[[Any, BaseException | None], None]

LOOK_AROUND_SECONDS = 0.5
"""How often a waiter makes sure that somebody leads."""


class Ticket:
    """A queued write and its answer. ``gate`` opens when it is answered or may lead."""

    __slots__ = ("answer", "done", "error", "gate", "gone", "settled", "write")

    def __init__(self, write: Write | None, done: Done | None = None) -> None:
        self.write = write
        self.done = done
        self.answer: Any = None
        self.error: BaseException | None = None
        self.gate: threading.Lock | None = None
        self.settled = False
        self.gone = False
        """Its thread has left, perhaps without handing over what it held."""

    def settle(self) -> None:
        if not self.settled:
            self.settled = True
            if self.gate is not None:
                self.gate.release()


class GroupCommit:
    """See the module. ``perform`` makes one write inside the open transaction; ``before_group``
    is told of all, if there are several; ``perform_together`` may do these at once instead, and
    commit them: it returns which are refused, or None if it does not."""

    def __init__(
        self,
        database: Transactions,
        perform: Callable[[Any], Any],
        crash_point: Callable[[str], None],
        before_group: Callable[[Sequence[Write]], None] = lambda writes: None,
        perform_together: Callable[
            [Sequence[Write]], Sequence[Exception | None] | None
        ] = lambda writes: None,
    ) -> None:
        self._before_group = before_group
        self._together = perform_together
        self._database = database
        self._doubts = Doubts(perform)
        self._perform = self._doubts.perform
        self._crash_point = crash_point
        self._mutex = threading.Lock()
        self._queue: list[Ticket] = []
        self._leader: Ticket | None = None
        self._group: list[Ticket] = []

    def apply(self, write: Write) -> Any:
        """Commit ``write`` and everything queued; return its answer or raise its error."""
        ticket = Ticket(write)
        try:
            if self._take_free_lead(ticket):
                self._lead_alone(ticket)
            else:
                self._see_through(ticket)
        except BaseException:
            # No call: on a full stack (a user's endless recursion ends here) even
            # the handing over of the lead fails. Whoever comes next sees this.
            ticket.gone = True
            raise
        if ticket.error is not None:
            raise ticket.error
        return ticket.answer

    def post(self, write: Write, done: Done) -> None:
        with self._mutex:
            self._queue.append(Ticket(write, done))

    def flush(self, *, wait: bool) -> bool:
        """Commit what is queued; without ``wait`` only if nobody else is writing."""
        # A ticket without a write: it is answered once all before it are.
        if not wait:
            return self._try_to_flush(Ticket(None))
        if self._queue or self._leader is not None:
            ticket = Ticket(None)
            try:
                self._see_through(ticket)
            except BaseException:
                ticket.gone = True
                raise
        return True

    def borrow(self) -> Ticket | None:
        """The lead, if nobody has it, for a read through the write connection; give it back.

        Its cache stays valid between its own commits, where a reader's is
        emptied by each of them.
        """
        ticket = Ticket(None)
        with self._mutex:
            if self._is_led() or self._queue:
                return None
            self._leader = ticket
        return ticket

    def give_back(self, ticket: Ticket) -> None:
        self._pass_on(ticket)

    def _is_led(self) -> bool:
        """Whether somebody leads who has not left without a word."""
        return self._leader is not None and not self._leader.gone

    def _try_to_flush(self, ticket: Ticket) -> bool:
        with self._mutex:
            if self._is_led():
                return False
            if not self._queue:
                return True
            self._queue.append(ticket)
            self._leader = ticket
        try:
            return self._lead(ticket, wait=False)
        except BaseException:
            ticket.gone = True
            raise
        finally:
            self._leave(ticket)

    def _take_free_lead(self, ticket: Ticket) -> bool:
        """Lead a group of its own, if nobody leads and nothing is queued: the usual case."""
        with self._mutex:
            group = self._group
            # Answered in their order: if the last one was, nobody of the group is owed anything.
            if self._leader is not None or self._queue or (group and not group[-1].settled):
                return False
            self._leader = ticket
            self._group = [ticket]
        return True

    def _lead_alone(self, ticket: Ticket) -> None:
        try:
            self._commit(self._group, wait=True)
        finally:
            self._pass_on(ticket)

    def _see_through(self, ticket: Ticket) -> None:
        try:
            if not self._enter(ticket):
                assert ticket.gate is not None
                while not ticket.gate.acquire(timeout=LOOK_AROUND_SECONDS):
                    if self._take_lost_lead(ticket):
                        break
            # Either answered by whoever led, or now leading.
            if self._leader is ticket:
                self._lead(ticket, wait=True)
        except BaseException:
            # Interrupted: the lead must not stay with a thread that has left.
            self._leave(ticket)
            raise

    def _enter(self, ticket: Ticket) -> bool:
        """Queue up; True: nobody leads, so this ticket does."""
        with self._mutex:
            self._queue.append(ticket)
            if not self._is_led():
                self._leader = ticket
                return True
            ticket.gate = threading.Lock()
            ticket.gate.acquire()
            return False

    def _take_lost_lead(self, ticket: Ticket) -> bool:
        """Lead in the place of one who left without passing the lead on; False if none did."""
        with self._mutex:
            if self._is_led() or ticket.settled:
                return False
            self._leader = ticket
            return True

    def _queue_what_is_owed(self) -> None:
        """Take over the group of a leader who is gone: whoever waits in it is still to be answered.

        With the mutex held, by everyone who leads: however they came to it, what
        they forget here would wait for ever.
        """
        owed = [each for each in self._group if not each.settled and not each.gone]
        self._queue[:0] = [each for each in owed if each not in self._queue]
        self._group = []

    def _leave(self, ticket: Ticket) -> None:
        with self._mutex:
            if ticket in self._queue:
                self._queue.remove(ticket)
        self._pass_on(ticket)

    def _pass_on(self, leader: Ticket) -> None:
        """Let the first who waits lead. Posted writes wait for the next to come, or a flush.

        Nothing if ``leader`` does not lead: one who is gone may have been replaced.
        """
        with self._mutex:
            if self._leader is not leader:
                return
            self._leader = None
            for ticket in self._queue:
                if ticket.gate is not None:
                    self._leader = ticket
                    ticket.gate.release()
                    return

    def _lead(self, own: Ticket, *, wait: bool) -> bool:
        """Commit groups until ``own`` is answered; False if the lock was not to be had."""
        own.gate = None
        posted: list[Ticket] = []
        try:
            while not own.settled:
                with self._mutex:
                    self._queue_what_is_owed()
                    # In a field, not a local: an interruption must not lose it.
                    self._group = group = self._queue[:MAX_GROUP]
                    del self._queue[:MAX_GROUP]
                if not self._commit(group, wait=wait):
                    with self._mutex:
                        self._queue[:0] = group
                    return False
                posted += [ticket for ticket in group if ticket.done is not None]
        except BaseException:
            posted += self._finish_for_others(own)
            raise
        finally:
            self._pass_on(own)
            if posted:
                _call_back(posted)
        return True

    def _finish_for_others(self, own: Ticket) -> list[Ticket]:
        """The leader was interrupted: whoever else stands in its group is owed an answer."""
        others = [ticket for ticket in self._group if ticket is not own and not ticket.settled]
        try:
            self._commit(others, wait=True)
        except BaseException:
            for ticket in others:
                ticket.error = KitaruBackendError(
                    "the commit was interrupted before it was done: nothing of it was recorded. "
                    "Start the program again; what was acknowledged is recalled",
                    code="recording-stopped",
                )
                ticket.settle()
        return [ticket for ticket in self._group if ticket.done is not None]

    def _commit(self, group: Sequence[Ticket], *, wait: bool) -> bool:
        """Commit a group in one transaction and answer everyone in it.

        Errors of the database are answers, like refusals; what is raised is an
        interruption, and then the transaction is gone and nobody has been answered.
        """
        writes = [ticket for ticket in group if ticket.write is not None]
        database, crash_point = self._database, self._crash_point
        committing = False
        try:
            if writes:
                if database.is_open():
                    database.rollback()  # left open by one who had no room to end it
                if self._doubts:
                    self._doubts.resolve(database.was_committed())
                crash_point("before_begin")
                if not database.begin(wait=wait):
                    return False
                accepted: list[type] | None
                if len(writes) == 1:
                    accepted = self._perform_alone(writes[0])
                else:
                    accepted = self._perform_together(writes)
                    if accepted is None:
                        accepted = self._perform_each(writes)
                if accepted:
                    for write in accepted:
                        crash_point(BEFORE_COMMIT[write])
                    committing = True
                    database.commit()
                    for write in accepted:
                        crash_point(AFTER_COMMIT[write])
                    database.verify()
                else:
                    database.rollback()
        except KitaruBackendError as error:
            database.rollback()
            if database.is_in_doubt():
                self._doubts.keep((each.write, each.answer, each.error) for each in writes)
            elif database.is_back():
                for ticket in writes:
                    ticket.answer = ticket.error = None
                return self._commit(group, wait=wait)
            for ticket in writes:
                ticket.error = copy(error)
                ticket.error.__cause__ = error.__cause__
        except BaseException:
            if not committing or database.is_open():
                database.rollback()
                for ticket in writes:
                    ticket.answer = ticket.error = None
            else:
                # Committed before the interruption: the answers stand for
                # everyone; the leader's thread alone is told of it.
                for ticket in group:
                    ticket.settle()
            raise
        for ticket in group:
            ticket.settle()
        return True

    def _perform_alone(self, ticket: Ticket) -> list[type]:
        try:
            ticket.answer = self._perform(ticket.write)
        except KitaruBackendError:
            raise
        except Exception as refusal:
            ticket.error = refusal
            return []
        return [type(ticket.write)]

    def _perform_together(self, tickets: Sequence[Ticket]) -> list[type] | None:
        if self._doubts.recognise_any():
            return None
        refused = self._together([each.write for each in tickets if each.write is not None])
        if refused is None:
            return None
        for ticket, error in zip(tickets, refused, strict=True):
            ticket.error = error
        return [type(each.write) for each in tickets if each.error is None]

    def _perform_each(self, tickets: Sequence[Ticket]) -> list[type]:
        database = self._database
        accepted: list[type] = []
        self._before_group([each.write for each in tickets if each.write is not None])
        for ticket in tickets:
            database.savepoint()
            try:
                ticket.answer = self._perform(ticket.write)
            except KitaruBackendError:
                raise
            except Exception as refusal:
                ticket.error = refusal
                database.roll_back_to_savepoint()
            else:
                database.release()
                accepted.append(type(ticket.write))
        return accepted


def _call_back(group: Sequence[Ticket]) -> None:
    """Tell those who posted. Outside every lock: they may queue further writes."""
    failed: BaseException | None = None
    for ticket in group:
        if ticket.done is not None:
            done, ticket.done = ticket.done, None
            try:
                done(ticket.answer, ticket.error)
            except BaseException as error:
                # One broken callback must not keep the others from their answers.
                failed = failed or error
    if failed is not None:
        raise failed
