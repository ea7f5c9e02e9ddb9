"""The clocks of a life, where time has to be up, or not yet, whatever the machine does meanwhile.

What is due in 10 ms is over before it is waited for if the machine is busy: a scenario
that shows what happens while one waits says itself when time goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from kitaru import app

_now: Callable[[], int] | None = None
"""The wall clock that goes on; None: it has not been stopped."""
_by_hand_seconds = 0.0


def stand() -> None:
    """From now on the wall clock of this life stands still."""
    global _now
    env = app.current().env
    _now, at = env.now, env.now()
    env.now = lambda: at


def go() -> None:
    """The wall clock goes on; from where it would have been, as after a machine's sleep."""
    if _now is not None:
        app.current().env.now = _now


def count_by_hand() -> None:
    """From now on the seconds of timeouts pass only where somebody lets them."""
    env = app.current().env
    began = env.monotonic()
    env.monotonic = lambda: began + _by_hand_seconds


def let_pass(seconds: float) -> None:
    global _by_hand_seconds
    _by_hand_seconds += seconds
