"""The store cannot be reached for now: who waits until it can, and what is said meanwhile.

What runs goes on, and what it comes to is held; nothing new starts. One thread looks
whether the store is back, for everybody, and ends when it is. Whether this process still
owns what it holds is not judged here: the epoch decides that when the outcome is written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from kitaru._engine.awaited import instant_of
from kitaru._engine.waking import Latch
from kitaru.errors import KitaruBackendError, KitaruError

if TYPE_CHECKING:
    from kitaru._engine.services import Services

T = TypeVar("T")

AWAY = "store-away"
"""The code of the errors that pass by themselves: nothing else is worth repeating."""

FIRST_PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 2.0
"""How often the store is looked for: a bound on how long anybody waits for one that is back."""

_NO_ID = "~"
"""Behind every id: asking for it costs the store next to nothing."""


def is_away(error: BaseException | None) -> bool:
    """Whether the store was not there when it was asked, and may be later."""
    return isinstance(error, KitaruBackendError) and error.code == AWAY


class Outage:
    """Belongs to a process's services. Its lock guards what is below, and is never held while
    the store is asked or anybody is called."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._back: Latch | None = None
        self._held: list[Callable[[], object]] = []
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._wake = threading.Event()
        self.since: int | None = None
        """When the store was first missed; None: it is there, for all that is known."""
        self.was_long: float | None = None
        """How many seconds the last outage took that this process has seen the end of."""

    # --- going away -----------------------------------------------------------------

    def began(self, error: BaseException) -> Latch:
        """The store was not there. Said once an outage -> what is over once it is back."""
        with self._lock:
            latch = self._back
            if latch is not None:
                return latch
            latch = self._back = Latch()
            self.since = since = self._services.env.now()
        self._services.say(
            f"the store is away since {instant_of(since)} ({error}). What runs here goes on and is "
            "recorded when it is back; nothing new starts until then"
        )
        threading.Thread(target=self._look, name="kitaru-away", daemon=True).start()
        return latch

    def hold(self, again: Callable[[], object], error: BaseException) -> None:
        """Call ``again`` once the store is back, in the order of holding.

        Only what was running when it went is held, so there is no more of it than that.
        """
        with self._lock:
            self._held.append(again)
        self.began(error)

    def arrived(self) -> None:
        """What was held has been answered: the store is really back."""
        self._pause_seconds = FIRST_PAUSE_SECONDS

    def stop(self) -> None:
        """Nobody looks for the store any more: this process is about to end."""
        self._wake.set()

    def said(self) -> str | None:
        """Why an owner may have been replaced, for whoever tells that it was."""
        if self.was_long is None:
            return None
        return f"the store was away from here for {self.was_long:.0f} s"

    # --- waiting ---------------------------------------------------------------------

    def through(self, ask: Callable[[], T]) -> T:
        """What ``ask`` comes to, however long the store is away; on a thread that may wait.

        It is the very same question each time: a write whose answer was lost is recognised.
        """
        while True:
            try:
                found = ask()
            except KitaruBackendError as error:
                if not is_away(error) or self._services.gone:
                    raise
                self.wait(error)
                if self._services.gone:
                    raise
            else:
                return found

    def wait(self, error: BaseException, timeout: float | None = None) -> None:
        """Block until the store is back, or nobody waits for anything any more."""
        self.began(error).wait(timeout)

    @property
    def is_given_up(self) -> bool:
        """Whether this process ends, and nobody waits for the store any more."""
        return self._services.gone

    @property
    def latch(self) -> Latch | None:
        """What is over once the store is back; None: it is not away."""
        return self._back

    # --- coming back -------------------------------------------------------------------

    def _look(self) -> None:
        while not self._services.gone:
            self._wake.wait(self._pause_seconds)
            if self._services.gone:
                break
            self._pause_seconds = min(MAX_PAUSE_SECONDS, self._pause_seconds * 2)
            try:
                self._services.store.first_from(_NO_ID)
                if self._services.when_renewed is not None and not self._services.is_owner():
                    continue  # its lease comes first: nothing is written without one
            except KitaruBackendError as error:
                if is_away(error):
                    continue
            except KitaruError:
                pass  # it is there, and whoever asks next learns what is wrong with it
            break
        self._is_back()

    def _is_back(self) -> None:
        with self._lock:
            latch, self._back = self._back, None
            held, self._held = self._held, []
            since, self.since = self.since, None
        if since is not None and not self._services.gone:
            self.was_long = (self._services.env.now() - since) / 1e6
            self._services.say(f"the store is back after {self.was_long:.0f} s")
        for again in held:
            again()
        if latch is not None:
            latch.over()
