"""What a replay keeps of its source: pure rules over the recorded attempts.

A replay is the source's history up to a point, and a new one from there. Without a point
every outcome is kept. With one, the *named* call and all that had not completed when it
started run anew. A call that holds a named or overridden one runs anew too, from the
attempt in which it held it, because its outcome would hide that. This file knows
attempts, their order and their instants; it reads and writes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from kitaru._core.lifecycle import CallState


class Attempt(Protocol):
    """A recorded attempt of a call."""

    @property
    def id(self) -> int: ...
    @property
    def identity(self) -> bytes: ...
    @property
    def attempt(self) -> int: ...
    @property
    def state(self) -> CallState: ...
    @property
    def retry_at(self) -> int | None: ...
    @property
    def reopened(self) -> bool: ...
    @property
    def seq(self) -> int: ...
    @property
    def place(self) -> int: ...
    @property
    def checkpoint(self) -> str: ...
    @property
    def parent(self) -> bytes | None: ...
    @property
    def parent_attempt(self) -> int: ...
    @property
    def branch(self) -> str: ...
    @property
    def started_at(self) -> int: ...
    @property
    def ended_at(self) -> int: ...


A = TypeVar("A", bound=Attempt)

Where = tuple[bytes | None, int, str, str]
"""(parent, its attempt, branch, checkpoint): where calls are counted by place."""


UNKNOWN_PLACE = -1
"""The place of a map whose items waited for their arguments."""


class Span(NamedTuple):
    """A map: the place of its first item, and how many there were."""

    first: int
    length: int


class History(Generic[A]):
    """The recorded attempts of one execution, by call.

    ``failed`` are final failures that stood when the replay was made: a retry of the source
    may have opened them again since.
    """

    def __init__(self, attempts: Iterable[A], *, failed: Collection[bytes] = ()) -> None:
        self.attempts: dict[bytes, list[A]] = {}
        self._below: dict[bytes, list[A]] = {}
        self._places: dict[Where, dict[int, bytes]] | None = None
        self._failed = frozenset(failed)
        for attempt in attempts:
            self.attempts.setdefault(attempt.identity, []).append(attempt)
            if attempt.parent is not None:
                self._below.setdefault(attempt.parent, []).append(attempt)

    def outcome(self, identity: bytes) -> A | None:
        """What the call came to in the end; None if it was to be tried again."""
        attempts = self.attempts.get(identity)
        if attempts is None:
            return None
        last = attempts[-1]
        if last.state is CallState.COMPLETED:
            return last
        is_open = last.reopened and identity not in self._failed
        return None if last.retry_at is not None or is_open else last

    def above(self, identity: bytes) -> Iterator[tuple[bytes, int]]:
        """The calls around this one, the innermost first, with the attempt that made it."""
        seen = {identity}
        attempts = self.attempts.get(identity)
        while attempts is not None and attempts[0].parent is not None:
            parent, attempt = attempts[0].parent, attempts[0].parent_attempt
            if parent in seen:
                return  # edited by somebody: a call is not inside itself
            seen.add(parent)
            yield parent, attempt
            attempts = self.attempts.get(parent)

    def below(self, identity: bytes, before: int | None = None) -> list[A]:
        """All that was called in the call's attempts (in those before ``before``), by id."""
        found: dict[int, A] = {}
        todo = [
            each
            for each in self._below.get(identity, ())
            if before is None or each.parent_attempt < before
        ]
        while todo:
            one = todo.pop()
            if one.id not in found:
                found[one.id] = one
                todo += self._below.get(one.identity, ())
        return [found[number] for number in sorted(found)]

    def at(self, where: Where, place: int) -> bytes | None:
        """The call that stands at a place."""
        if self._places is None:
            self._places = {}
            for identity, attempts in self.attempts.items():
                first = attempts[0]
                there = (first.parent, first.parent_attempt, first.branch, first.checkpoint)
                self._places.setdefault(there, {}).setdefault(first.place, identity)
        return self._places.get(where, {}).get(place)


class Kept(Generic[A]):
    """Which outcomes of a history a replay keeps.

    ``named`` is the call from which it runs anew, ``overridden`` those whose outcomes
    are given.
    """

    def __init__(
        self, history: History[A], *, named: bytes | None, overridden: Collection[bytes]
    ) -> None:
        self.history = history
        self.named = named
        self._cut = None if named is None else history.attempts[named][0]
        self._anew: dict[bytes, int] = {}
        """Calls that run anew for what they hold -> from which attempt on."""
        for identity in [*overridden, *([] if named is None else [named])]:
            self._anew[identity] = 1
            for holder, attempt in history.above(identity):
                self._anew[holder] = min(attempt, self._anew.get(holder, attempt))

    def outcome(self, identity: bytes) -> A | None:
        """The outcome that the call keeps, or None."""
        found = self.history.outcome(identity)
        if found is None or identity in self._anew or not self._was_complete(found):
            return None
        return found

    def first_attempts(self, identity: bytes) -> list[A]:
        """Failed attempts that stay on record of a call that runs anew from a later one."""
        before = self._anew.get(identity, 1)
        if before == 1:
            return []
        return [each for each in self.history.attempts.get(identity, ()) if each.attempt < before]

    def holds(self, identity: bytes) -> bool:
        """Whether the call runs anew only because of what is called in it."""
        return identity in self._anew and identity != self.named

    def starts_at(self) -> int | None:
        """The instant from which the replay runs anew; None if it names no call."""
        return None if self._cut is None else self._cut.started_at

    def _was_complete(self, outcome: A) -> bool:
        """Whether it had completed when the named call started.

        By the recorded instants; of those in one microsecond by the order of calling.
        Whatever was committed behind the named call had not.
        """
        cut = self._cut
        if cut is None:
            return True
        before = (outcome.ended_at, outcome.seq) < (cut.started_at, cut.seq)
        return before and outcome.id < cut.id


def same_maps(here: Sequence[Span], there: Sequence[Span], place: int) -> bool:
    """Whether the maps up to ``place`` are the same in both: else places do not correspond.

    >>> same_maps([Span(0, 3)], [Span(0, 3)], 4), same_maps([Span(0, 4)], [Span(0, 3)], 1)
    (True, False)
    """
    if any(span.first == UNKNOWN_PLACE for span in (*here, *there)):
        return False
    return [s for s in here if s.first <= place] == [s for s in there if s.first <= place]


# --- which call somebody means ---------------------------------------------------------------


class Named(Protocol):
    """A call as people see it."""

    @property
    def call_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def checkpoint_id(self) -> str: ...


C = TypeVar("C", bound=Named)


def find_calls(calls: Sequence[C], wanted: str) -> list[C]:
    """The calls that ``wanted`` fits: a name, ``name#2``, a checkpoint's id, a call id.

    ``calls`` in the order in which they were made; ``#2`` is the second of that name. The
    last part of a checkpoint's id counts as a name where nothing else has it; of a call id
    the part behind the colon will do, or its beginning.
    """
    name, hash_, number = wanted.rpartition("#")
    if hash_ and number.isdigit():
        found = _by_name(calls, name)
        return found[int(number) - 1 : int(number)] if int(number) else []
    found = _by_name(calls, wanted)
    if found:
        return found
    exact = [call for call in calls if wanted in (call.call_id, call.call_id.rpartition(":")[2])]
    return exact or [
        call
        for call in calls
        if len(wanted) >= MIN_ID_CHARACTERS
        and call.call_id.rpartition(":")[2].startswith(wanted.rpartition(":")[2])
    ]


MIN_ID_CHARACTERS = 4
"""Of a call id: less could be part of many words."""


def _by_name(calls: Sequence[C], name: str) -> list[C]:
    for fits in (
        lambda call: name in (call.name, call.checkpoint_id),
        lambda call: call.checkpoint_id.rpartition(".")[2] == name,
    ):
        found = [call for call in calls if fits(call)]
        if found:
            return found
    return []


def numbered(calls: Sequence[C], shown: Sequence[C]) -> list[str]:
    """``shown`` as people may write them: ``name#2``, or the name alone where there is one.

    A number counts the calls of that name among all ``calls``.
    """
    totals = Counter(call.name for call in calls)
    wanted = {call.call_id for call in shown}
    count: Counter[str] = Counter()
    found = []
    for call in calls:
        count[call.name] += 1
        if call.call_id in wanted:
            alone = totals[call.name] == 1
            found.append(call.name if alone else f"{call.name}#{count[call.name]}")
    return found
