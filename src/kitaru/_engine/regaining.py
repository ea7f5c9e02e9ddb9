"""Waiting for a lease to be renewed: a body that is due does not begin before.

What runs already goes on meanwhile. A lease that turns out to be lost ends the
execution here; where lock files say who lives there is nothing to wait for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kitaru._engine.effects import Effect
from kitaru._engine.waking import Latch

if TYPE_CHECKING:
    from kitaru._engine.run import Run


class Regain(Effect):
    """Wait until this process may start something new; unwind if, for this run, it never may."""

    __slots__ = ("run",)
    waits = True
    name = "regain"

    def __init__(self, run: Run) -> None:
        self.run = run

    def perform(self) -> None:
        while not self.run.services.is_owner():
            with self._news() as news:
                news.wait()
            self.run.check()

    async def perform_async(self) -> None:
        while not self.run.services.is_owner():
            with self._news() as news:
                await news.wait_async()
            self.run.check()

    @contextmanager
    def _news(self) -> Iterator[Latch]:
        """Over when a heartbeat is answered, or when the run is told to end."""
        run = self.run
        run.check()
        run.check_owner()
        news = Latch()
        assert run.services.when_renewed is not None  # else check_owner has raised
        run.services.when_renewed(news.over)
        with run.waking(news.over):
            yield news
