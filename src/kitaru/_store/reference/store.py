"""The model as a whole: which write is performed where, and what is asked of no table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kitaru._store.carrying import Carrying
from kitaru._store.commit import AFTER_COMMIT, BEFORE_COMMIT
from kitaru._store.protocol import (
    Answer,
    Beat,
    Beaten,
    Cancel,
    Claim,
    ClaimNext,
    DeclareDead,
    Delete,
    Draining,
    DropBlobs,
    DropSchedule,
    Enlist,
    Expire,
    Finish,
    Fire,
    Forget,
    GiveUp,
    Hint,
    Import,
    Park,
    PauseSchedule,
    Reap,
    Record,
    RegisterOwner,
    Release,
    Remember,
    RemoveSchedule,
    Retry,
    SetLimits,
    SetSchedule,
    Start,
    Sweep,
    TryAgain,
    Wake,
    Write,
)
from kitaru._store.reference.calls import Calls
from kitaru._store.reference.housekeeping import Housekeeping
from kitaru._store.reference.schedules import Schedules
from kitaru._store.reference.tables import Done
from kitaru.env import Env


class ReferenceStore(Carrying, Calls, Schedules, Housekeeping):
    """A :class:`kitaru._store.protocol.Store` in memory."""

    def __init__(self, *, project: str, env: Env) -> None:
        super().__init__(project=project, env=env)
        self._methods: dict[type, Callable[[Any], Any]] = {
            RegisterOwner: self._register_owner,
            DeclareDead: self._declare_dead,
            Beat: self._beat,
            Reap: self._reap,
            Start: self._start,
            SetSchedule: self._set_schedule,
            DropSchedule: self._drop_schedule,
            PauseSchedule: self._pause_schedule,
            RemoveSchedule: self._remove_schedule,
            Fire: self._fire,
            Claim: self._claim,
            ClaimNext: self._claim_next,
            SetLimits: self._set_limits,
            Enlist: self._enlist,
            Draining: self._draining,
            Record: self._record,
            Finish: self._finish,
            TryAgain: self._try_again,
            Release: self._release,
            Retry: self._retry,
            GiveUp: self._give_up,
            Park: self._park,
            Wake: self._wake,
            Answer: self._answer,
            Expire: self._expire,
            Cancel: self._cancel,
            Remember: self._remember,
            Forget: self._forget,
            Delete: self._delete,
            Sweep: self._sweep,
            DropBlobs: self._drop_blobs,
            Import: self._import,
        }

    # --- writes: check everything, then change everything ---

    def apply(self, write: Write) -> Any:
        with self._inside():
            self._take_along()
            self.flush(wait=True)
            return self._perform(write)

    def _take_along(self) -> None:
        overdue = self._overdue()
        if overdue is not None:
            self._queue.append(overdue)

    def beat(self, write: Beat) -> Beaten:
        with self._inside():
            beaten: Beaten = self._perform(write)
        return beaten

    def read_clock(self, at: int) -> int:
        return at

    def post(self, write: Write, done: Done) -> None:
        with self._inside():
            self._take_along()
            self._queue.append((write, done))

    def flush(self, *, wait: bool) -> bool:
        with self._inside():
            queued, self._queue = self._queue, []
            answers: list[tuple[Done, Any, BaseException | None]] = []
            for write, done in queued:
                try:
                    answers.append((done, self._perform(write), None))
                except Exception as error:
                    answers.append((done, None, error))
        for done, answer, failure in answers:
            done(answer, failure)
        return True

    def _perform(self, write: Write) -> Any:
        answer = self._methods[type(write)](write)
        self._env.crash_point(BEFORE_COMMIT[type(write)])
        self._changes += 1
        self._env.crash_point(AFTER_COMMIT[type(write)])
        return answer

    def changes(self) -> int:
        with self._inside():
            return self._changes

    def listen(self, heard: Callable[[Hint], None]) -> None:
        """Nobody is there but us."""

    @property
    def hears(self) -> bool:
        return False

    def examine(self, *, seconds: float | None) -> dict[str, Any]:
        return {
            "journal_mode": "memory",
            "synchronous": 0,
            "problems": [],
            "complete": True,
            "library": "none",
        }

    def info(self) -> dict[str, Any]:
        """Like a database's, as far as memory has an answer."""
        return {
            "backend": "memory",
            "location": ":memory:",
            "schema_version": 0,
            "project": self.project,
            "bytes": 0,
        }

    def close(self) -> None:
        with self._lock:
            self._closed = True
