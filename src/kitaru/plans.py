"""The frozen records of what would become of an execution: a plan, and its calls.

What makes them is in ``planning.py`` and ``deploys.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kitaru.model import Difference
from kitaru.status import ExecutionStatus


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """What would become of one recorded call; printed, it is a line for people.

    ``action`` is ``recall`` (its outcome is taken), ``carry`` (a replay keeps it), ``override``
    (a replay is given it), ``run`` (its body runs anew), ``perhaps`` (it runs if its inputs are
    others than before, else it is kept) or ``orphan`` (nobody would ask for its
    outcome). ``code`` says how the code that recorded it stands to today's: ``same``,
    ``changed``, ``gone`` or ``unknown``; ``changed`` are the functions and values that differ,
    ``differences`` show how. ``costs`` and ``seconds`` are those of its last attempt.
    """

    call_id: str
    name: str
    seq: int
    action: str
    reason: str
    code: str
    changed: tuple[str, ...]
    differences: tuple[Difference, ...]
    costs: Mapping[str, float]
    seconds: float

    def __str__(self) -> str:
        """One line.

        >>> print(PlannedCall("e:1", "draft", 0, "run", "it failed", "same", (), (), {}, 1.5))
        #0 draft: run: it failed
        """
        code = {"changed": f"; code changed: {', '.join(self.changed)}", "gone": "; code gone"}
        return f"#{self.seq} {self.name}: {self.action}: {self.reason}{code.get(self.code, '')}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a resume, retry or replay would do with what an execution recorded. Nothing has run.

    ``counts``, ``costs`` and ``seconds`` are by action: how many calls, what their metadata says
    that they cost, how long their bodies took. ``notes`` say what cannot be known before.
    """

    exec_id: str
    flow_name: str
    status: ExecutionStatus
    verb: str
    from_: str | None
    calls: tuple[PlannedCall, ...]
    counts: Mapping[str, int]
    costs: Mapping[str, Mapping[str, float]]
    seconds: Mapping[str, float]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        """What it comes to, then a line for each call and each note."""
        counts = ", ".join(f"{count} {action}" for action, count in self.counts.items())
        start = "" if self.from_ is None else f" from {self.from_}"
        head = f"{self.verb} of {self.exec_id}{start}: {counts or 'nothing is recorded'}"
        return "\n".join([head, *map(str, self.calls), *self.notes])


@dataclass(frozen=True, slots=True)
class LivePlan:
    """How an unfinished execution stands to the code that is imported here. Nothing has run.

    ``verdict`` is ``"fine"`` (a resume recalls what is recorded), ``"runs anew"`` (something
    that is recorded would not be found, and runs again or is left) or ``"stops"`` (it would not
    go on: ``problems`` say why). ``counts`` is how many recorded calls come to what:
    ``recall``, ``run`` (a failed attempt is tried again), ``drift``, ``orphan``.
    """

    exec_id: str
    flow_id: str
    flow_name: str
    status: ExecutionStatus
    verdict: str
    counts: Mapping[str, int]
    problems: tuple[str, ...]
