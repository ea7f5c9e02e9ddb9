"""What an execution is enqueued with, and the limits that this process says.

A limit stands in the store, for the whole fleet: a process writes those that it was
configured with when it first starts or claims something, and again once they change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from kitaru._core.queueing import DEFAULT_QUEUE
from kitaru._store.protocol import SetLimits, Start

if TYPE_CHECKING:
    from kitaru._engine.services import Services
    from kitaru._store.protocol import ExecutionRow


class Queueing(NamedTuple):
    """What ``flow.options()`` says of queues; None: not said."""

    queue: str | None = None
    priority: int | None = None
    limit_key: str | None = None
    delay_seconds: float | None = None

    def over(self, before: Queueing) -> Queueing:
        """What is said here, and what was said before where nothing is."""
        pairs = zip(self, before, strict=True)
        return Queueing._make(old if new is None else new for new, old in pairs)

    def said(self) -> list[str]:
        """The names of the options that were said."""
        names = ("queue", "priority", "limit_key", "delay")
        return [name for name, value in zip(names, self, strict=True) if value is not None]

    def due_at(self, now: int) -> int | None:
        return now + round(self.delay_seconds * 1e6) if self.delay_seconds else None

    def born(self, new: Start, parent: ExecutionRow | None) -> Start:
        """The start in its queue: a child that says nothing goes where its parent went."""
        queue, priority = (DEFAULT_QUEUE, 0) if parent is None else (parent.queue, parent.priority)
        return new._replace(
            queue=queue if self.queue is None else self.queue,
            priority=priority if self.priority is None else self.priority,
            limit_key=self.limit_key,
            due_at=self.due_at(new.at),
        )


NOTHING_SAID = Queueing()


def say_limits(services: Services, limits: Mapping[str, int | None]) -> None:
    """Write the limits of queues and keys that this process was configured with, if they are new.

    What it said before and does not say any more is taken back; what others have
    said stays.
    """
    before = services.limits_said
    if limits == before:
        return
    new: dict[str, int | None] = dict.fromkeys(before)
    services.store.apply(SetLimits(services.project, {**new, **limits}))
    services.limits_said = dict(limits)
