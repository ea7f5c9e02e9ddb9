"""States and the only transitions between them.

This table is the authority: the guards in the SQL, the CHECKs of the schema,
the diagram in the docs and the random walks in the tests are held against it.
``interrupted`` is not here, because it is derived from a dead owner and never
stored.
"""

from __future__ import annotations

import enum


class State(enum.StrEnum):
    """What an execution is recorded as."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(enum.StrEnum):
    """What may happen to an execution; each is one write of the store."""

    CLAIM = "claim"
    TAKE_OVER = "take_over"
    RELEASE = "release"
    PARK = "park"
    WAKE = "wake"
    COMPLETE = "complete"
    FAIL = "fail"
    TRY_AGAIN = "try_again"
    RETRY = "retry"
    GIVE_UP = "give_up"
    CANCEL = "cancel"
    STOPPED = "stopped"


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.PENDING: {
        Event.CLAIM: State.RUNNING,
        Event.GIVE_UP: State.FAILED,
        Event.CANCEL: State.CANCELLED,
    },
    State.RUNNING: {
        # The owner is dead: pending and claimed again in one write.
        Event.TAKE_OVER: State.RUNNING,
        # Handed back, or the owner is gone and nobody claims yet.
        Event.RELEASE: State.PENDING,
        Event.PARK: State.WAITING,
        Event.COMPLETE: State.COMPLETED,
        Event.FAIL: State.FAILED,
        # An automatic retry of the flow: the same owner runs the body again.
        Event.TRY_AGAIN: State.RUNNING,
        Event.CANCEL: State.CANCELLING,
    },
    State.WAITING: {
        Event.WAKE: State.PENDING,
        Event.GIVE_UP: State.FAILED,
        Event.CANCEL: State.CANCELLED,
    },
    # The cancel was committed first, so the code's own outcome has lost (S2).
    State.CANCELLING: {Event.STOPPED: State.CANCELLED},
    State.COMPLETED: {},
    State.FAILED: {Event.RETRY: State.PENDING},
    State.CANCELLED: {},
}

FINISHED = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})


class IllegalTransition(AssertionError):
    """Somebody asked for a pair that the table does not list: a bug of ours."""


def after(state: State, event: Event) -> State:
    """The state that follows, or ``IllegalTransition``.

    >>> after(State.PENDING, Event.CLAIM)
    <State.RUNNING: 'running'>
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(f"{event} of an execution that is {state}") from None


def states_before(event: Event) -> frozenset[State]:
    """All states in which ``event`` may happen: what a guard has to list."""
    return frozenset(state for state, events in TRANSITIONS.items() if event in events)


class CallState(enum.StrEnum):
    """What an attempt of a call is recorded as. A call without a row has not finished."""

    COMPLETED = "completed"
    FAILED = "failed"


class CallSource(enum.StrEnum):
    """Where a recorded outcome came from."""

    RAN = "ran"
    REUSED = "reused"
    CARRIED = "carried"
    OVERRIDE = "override"


class WaitState(enum.StrEnum):
    """What a wait is recorded as. All but open are final."""

    OPEN = "open"
    ANSWERED = "answered"
    EXPIRED = "expired"
    ABORTED = "aborted"


class WaitKind(enum.StrEnum):
    """What is waited for."""

    INPUT = "input"
    """``kitaru.wait()``: an answer that fits its schema."""
    DECISION = "decision"
    """What is to become of a call: run, adopt or abort."""


MAX_DEATHS = 5
"""Deaths of an owner without a new outcome after which an execution fails (O5)."""

SUSPECT_DEATHS = 2
"""Deaths after which an execution runs alone in its process (O5)."""
