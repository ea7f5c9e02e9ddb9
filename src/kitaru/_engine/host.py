"""The thread that calls ``tick()``, and what happens when the interpreter wants to go.

Executions are finished before the interpreter ends, as with a thread pool. Our
threads are daemons, so nothing of the interpreter joins them; instead a hook
of ours runs where ``concurrent.futures`` hooks in, and after its own import:
hooks run last in, first out, so ours runs while ``to_thread`` still works.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401  (first: see above)
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from kitaru._core.lifecycle import State
from kitaru._engine.awaited import describe
from kitaru._engine.debugging import AGAIN_SECONDS, prompt_is_open, restore_terminal
from kitaru._engine.draining import drain
from kitaru._engine.outage import is_away
from kitaru._engine.runner import Runner
from kitaru.errors import KitaruError
from kitaru.notices import notice

DRAIN_SECONDS = 5.0
"""What bodies get to finish and record after Ctrl-C (DESIGN.md, section 7)."""

_NOTICE_SECONDS = 2.0

_AWAY_SECONDS = 5.0
"""After this long the host looks again, whatever kept it from looking."""


class Host:
    """Keeps a runner ticking while it adopts, and ends it in good order."""

    def __init__(self, runner: Runner, at_exit: Callable[[], tuple[str, float | None]]) -> None:
        self._runner = runner
        self._at_exit = at_exit
        self._pid = os.getpid()
        self._wake = threading.Event()
        self._stop = False
        self._ticker: threading.Thread | None = None
        self._starting = threading.RLock()
        self._draining = False
        self._debugger_told_at = -AGAIN_SECONDS
        self.interrupted = False
        """Somebody pressed Ctrl-C while waiting for an execution, and has not waited since."""
        runner.alarm = self.keep_ticking
        _register_atexit(self._finish)

    def keep_ticking(self) -> None:
        """Start the thread that ticks, or wake it; it ends with the process."""
        with self._starting:
            if self._ticker is None:
                # Listed before it starts: it may ask for another tick at once.
                self._ticker = threading.Thread(target=self._tick, name="kitaru-host", daemon=True)
                try:
                    self._ticker.start()
                except RuntimeError:
                    self._ticker = None
                    return  # The interpreter is ending; what runs here ends by itself.
        self._wake.set()

    def _tick(self) -> None:
        while not self._stop:
            try:
                pause_seconds = self._runner.tick()
            except Exception as error:
                pause_seconds = self._missed(error)
            self._wake.wait(pause_seconds)
            self._wake.clear()

    def _missed(self, error: Exception) -> float:
        """Nothing was seen: look again later, or once the store is back if it is only away."""
        if is_away(error):
            self._runner.services.outage.wait(error, _AWAY_SECONDS)
            return 0.0
        text = f"cannot look for what has arrived: {error}"
        self._runner.services.say(text, once=("tick", text))
        return _AWAY_SECONDS

    def stop(self) -> None:
        """Let the thread that ticks end."""
        self._stop = True
        self._wake.set()

    # --- the end ----------------------------------------------------------------------

    def _finish(self) -> None:
        if os.getpid() != self._pid or self._stop:
            return
        self._runner.services.exiting = True
        self._runner.adopting = None
        # What stands in a wait or a sleep parks now; what runs is finished first.
        self._wake.set()
        if self._runner.busy:
            self._finish_executions()
        self.stop()
        self._say_what_waits()
        if self._runner.services.logs is not None:
            self._runner.services.logs.close()
        restore_terminal()
        if not self._runner.busy:
            self._runner.ownership.retire()

    def _say_what_waits(self) -> None:
        """What this process parked is nobody's once it has gone: say how it goes on."""
        parked = self._runner.noticing.parked()
        if len(parked) > 1:
            notice(
                f"{len(parked)} executions wait, and go on in a process that serves them "
                "(kitaru.recover()), or with kitaru executions resume ID; "
                "see: kitaru executions list --status waiting"
            )
        for each in parked[:1] if len(parked) == 1 else ():
            with contextlib.suppress(KitaruError):
                row = self._runner.store.find_execution(each.exec_id)
                if row is not None and row.status is State.WAITING:
                    notice(describe(self._runner.store, row))

    def _finish_executions(self) -> None:
        what, seconds = self._at_exit()
        try:
            if self._was_interrupted():
                self._drain()
            elif what == "leave":
                drain(self._runner, seconds if seconds is not None else 0.0)
            else:
                self._wait(seconds)
        except KeyboardInterrupt:
            self._interrupted_at_exit()

    def is_for_a_debugger(self) -> bool:
        """Whether this Ctrl-C was typed at a debugger's prompt, which cannot see it.

        The first one is; a second one soon after is meant for the program.
        """
        if not prompt_is_open():
            return False
        now = self._runner.services.env.monotonic()
        if now - self._debugger_told_at < AGAIN_SECONDS:
            return False
        self._debugger_told_at = now
        notice(
            "a debugger is open in this program: type c to go on or q to leave, after which the "
            f"execution can be resumed; Ctrl-C again within {AGAIN_SECONDS:.0f} s ends the program"
        )
        return True

    def interrupt(self) -> None:
        """Ctrl-C reached somebody who waits: from now on nothing new starts."""
        self.interrupted = True
        self._runner.services.draining = True

    def go_on(self) -> None:
        """The program caught that Ctrl-C, and runs or waits for executions again."""
        if self.interrupted and not self._draining:
            self.interrupted = False
            self._runner.services.draining = False
            self._runner.dispatch()

    def _was_interrupted(self) -> bool:
        if self.interrupted:
            return True
        kind = getattr(sys, "last_type", None)
        return isinstance(kind, type) and issubclass(kind, KeyboardInterrupt)

    def _wait(self, seconds: float | None) -> None:
        """Finish what runs; bounded by ``at_exit_seconds``, after which the rest is handed back."""
        first = _NOTICE_SECONDS if seconds is None else min(seconds, _NOTICE_SECONDS)
        if self._runner.wait_idle(first):
            return
        notice(
            f"waiting for {self._runner.busy} running execution(s) before the program ends "
            '(Ctrl-C hands them back; configure(at_exit="leave") does not wait)'
        )
        left = None if seconds is None else max(0.0, seconds - first)
        if not _wait_interruptibly(self._runner, left):
            drain(self._runner, 0.0)

    def _drain(self) -> None:
        # First: who reads the notice may press Ctrl-C again at once, and relies on it that
        # nothing starts any more.
        self._draining = True
        self._runner.services.draining = True
        notice(
            f"interrupted: bodies get {DRAIN_SECONDS:.0f} s to finish and record "
            "(Ctrl-C again ends at once)"
        )
        drain(self._runner, DRAIN_SECONDS)

    def _interrupted_at_exit(self) -> None:
        try:
            if self._draining:
                raise KeyboardInterrupt
            self._drain()
        except KeyboardInterrupt:
            restore_terminal()
            os._exit(130)


def _wait_interruptibly(runner: Runner, seconds: float | None) -> bool:
    """Like ``wait_idle``; in slices, because a bare wait could not see Ctrl-C at shutdown."""
    waited = 0.0
    while seconds is None or waited < seconds:
        slice_seconds = 0.5 if seconds is None else min(0.5, seconds - waited)
        if runner.wait_idle(slice_seconds):
            return True
        waited += slice_seconds
    return False


def _register_atexit(hook: Callable[[], Any]) -> None:
    register = getattr(threading, "_register_atexit", None)
    if register is None:
        import atexit

        atexit.register(hook)
        return
    try:
        register(hook)
    except RuntimeError:
        # The interpreter is ending already; there is nothing left to wait for.
        return
