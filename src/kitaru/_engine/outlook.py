"""What there may be to do here, found out with one question at each poll.

Where the store is reached over a network each question is a round trip, and a fleet of idle
processes asks day and night: so all that an idle process has to know is one question, and
what is behind its answer is asked only if it says that something is there. On one machine
it is asked once somebody has committed something, of which a number tells for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitaru._store.protocol import Signs

if TYPE_CHECKING:
    from kitaru._engine.runner import Runner

POLL_SECONDS = 2.0
"""How long what nobody tells of may go unseen."""

ANYTHING = Signs(0, True, True, None, True, True, True, None)
"""Nothing was asked: whoever wants to know looks by himself."""


class Outlook:
    """Belongs to a runner, and is called on the thread that ticks it; ``again()`` on any."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._store = runner.store
        self._env = runner.services.env
        self._changes: int | None = None
        self.look_at = 0.0
        """When it is asked again, untold."""
        self._is_told = False
        self.signs = ANYTHING
        self.looks = 0
        """How often it was asked."""

    def again(self) -> None:
        """There may be something new: the next look asks."""
        self._is_told = True

    def changes(self) -> int:
        """A number that differs once there is something to look at."""
        return self._store.changes() if self.signs is ANYTHING else self.signs.changes

    def look(self) -> None:
        """Ask, if it is time to."""
        runner = self._runner
        serving = runner.serving
        if serving is None and not self._store.is_remote:
            return
        if runner.is_leaving or runner.ownership.is_suspended:
            self.signs = ANYTHING
            return
        now = self._env.monotonic()
        changes = None if self._store.is_remote else self._store.changes()
        if changes == self._changes and now < self.look_at and not self._is_told:
            return
        self._is_told = False
        wanted = None if serving is None else serving.wanted
        self.signs = self._store.signs(
            runner.ownership.number(),
            project=runner.services.project,
            flow_ids=[] if wanted is None else list(wanted.flows()),
            queues=[] if wanted is None else wanted.queues,
            at=self._env.now(),
        )
        self._changes = changes
        self.look_at = now + self._poll_seconds()
        self.looks += 1

    def _poll_seconds(self) -> float:
        # Of a lease that is over nobody tells: a takeover waits for this poll.
        runner = self._runner
        has_leases = runner.ownership.has_leases
        return min(POLL_SECONDS, runner.poll_seconds) if has_leases else POLL_SECONDS
