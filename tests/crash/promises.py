"""The promises of DESIGN.md, section 2, held against a journal and what a store says.

Judged after every life. Knows neither the flows nor how a life was ended.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

Event = dict[str, Any]
Seen = dict[str, Any]

_FINISHED = ("completed", "failed", "cancelled")


class Trial:
    """One execution (or a few) from its first life to its last."""

    def __init__(self, name: str, sequential: bool) -> None:
        self.name = name
        self.sequential = sequential
        self.last: Seen = {"executions": [], "owners": []}
        self.context = ""
        self._acknowledged: dict[str, str] = {}
        """Mark of a recorded success -> the call whose body made it."""
        self._starts_seen = 0
        self._where: dict[str, str] = {}
        """What the flow has received at each place, once acknowledged."""

    def check(self, promise: str, kept: bool, about: Any) -> None:
        if not kept:
            raise AssertionError(
                f"{promise}: broken in {self.name}\n{json.dumps(about, indent=1, default=str)}\n"
                f"journal and log:\n{self.context}"
            )

    def judge(self, lives: int, journal: list[Event], seen: Seen) -> None:
        self._rows(seen)
        starts = [event for event in journal if event["event"] == "start"]
        self._never_again(starts, seen)
        for start in starts:
            self.check("S2, nothing starts after a cancel", "never" not in start["label"], start)
        self._attempts(starts, seen)
        self._once(journal, seen)
        self._recorded_before_used([e for e in journal if e["life"] == lives], seen)
        self._same_place_same_value(journal, seen)
        self._ownership(seen)
        self.last = seen

    # --- R3 -----------------------------------------------------------------------------

    def _rows(self, seen: Seen) -> None:
        for execution in seen["executions"]:
            calls = execution["calls"]
            attempts = Counter((call["identity"], call["attempt"]) for call in calls)
            self.check("R3, one outcome per attempt", max(attempts.values(), default=1) == 1, calls)
            successes = Counter(c["identity"] for c in calls if c["state"] == "completed")
            self.check("R3, one success per call", max(successes.values(), default=1) == 1, calls)
            marks = Counter(call["mark"] for call in calls if call["mark"] is not None)
            self.check("R3, one row per body", max(marks.values(), default=1) == 1, calls)
        keys = Counter((e["flow"], e["key"]) for e in seen["executions"] if e["key"] is not None)
        self.check("one execution per key", max(keys.values(), default=1) == 1, seen)
        named = [(e["parent"], e["parent_call"]) for e in seen["executions"] if e["parent"]]
        self.check("one child per call", len(named) == len(set(named)), seen)

    # --- R1, R2 -------------------------------------------------------------------------

    def _never_again(self, starts: list[Event], seen: Seen) -> None:
        rows = _by_mark(seen)
        for mark in self._acknowledged:
            self.check("R1, nothing acknowledged is lost", mark in rows, mark)
        acknowledged: dict[str, str] = {}
        successes: dict[str, Event] = {}
        for start in starts:
            row = rows.get(start["mark"])
            earlier = successes.get(start["call"])
            self.check("R2, never again", earlier is None, {"again": start, "done": earlier})
            if row is not None and row["state"] == "completed":
                successes[start["call"]] = start
                acknowledged[start["mark"]] = start["call"]
        for start in starts[self._starts_seen :]:
            done = [m for m, call in self._acknowledged.items() if call == start["call"]]
            self.check("R2, never again after it was acknowledged", not done, [start, done])
        self._acknowledged = acknowledged
        self._starts_seen = len(starts)

    # --- S4 -----------------------------------------------------------------------------

    def _attempts(self, starts: list[Event], seen: Seen) -> None:
        rows = _by_mark(seen)
        failures: defaultdict[str, int] = defaultdict(int)
        for start in starts:
            if start["label"].startswith("once("):
                continue  # a try that was lost and is to run again counts as one, without a mark
            expected = failures[start["call"]] + 1
            self.check("S4, attempt = recorded failures + 1", start["attempt"] == expected, start)
            row = rows.get(start["mark"])
            if row is not None:
                self.check("S4, the row's attempt", row["attempt"] == start["attempt"], row)
                failures[start["call"]] += row["state"] == "failed"

    # --- effect="once" -------------------------------------------------------------------

    def _once(self, journal: list[Event], seen: Seen) -> None:
        """A body starts again only if somebody, or ``verify=``, said that it may."""
        begun: Counter[str] = Counter()
        allowed = 0
        for event in journal:
            said_run = event["event"] == "decided" and event["decision"] == "run"
            allowed += said_run or event["event"] == "verified"
            if event["event"] == "start" and event["label"].startswith("once("):
                # Whatever its inputs are by now: there is one such call in each of these flows.
                begun["once"] += 1
                self.check("at most once", begun["once"] <= 1 + allowed, event)

    # --- R4 -----------------------------------------------------------------------------

    def _recorded_before_used(self, journal: list[Event], seen: Seen) -> None:
        ran = _by_mark(seen)
        # What a replay knows, it knows by a copy of its own.
        replayed = {e["original"] for e in seen["executions"]}
        own = [e for e in seen["executions"] if e["exec_id"] not in replayed]
        here = "".join(call["value"] for e in own for call in e["calls"])
        here += "".join(json.dumps(e["learnt"]) for e in own)
        made = {event["mark"] for event in journal if event["event"] == "end"}
        owed: list[str] = []
        for event in journal:
            if event["event"] == "got":
                for mark in _marks(event["value"]):
                    # Made here: acknowledged before the flow had it. Else it was
                    # learnt, and is owed before the next body starts.
                    if mark in made:
                        self.check("R4, recorded before used", mark in ran, event)
                    elif self.sequential:
                        owed.append(mark)
            elif event["event"] == "learnt":
                owed.append(event["value"])
            elif event["event"] == "start":
                for value in owed:
                    if not self.sequential and value not in event["label"]:
                        continue  # learnt by another branch: not what this body depends on
                    self.check("R4, learnt before a body starts", value in here, [value, event])

    def _same_place_same_value(self, journal: list[Event], seen: Seen) -> None:
        ran = _by_mark(seen)
        for event in journal:
            if event["event"] == "got" and all(mark in ran for mark in _marks(event["value"])):
                before = self._where.setdefault(event["where"], event["value"])
                self.check(
                    "R2, the same call gets the same outcome", before == event["value"], event
                )

    # --- O1, O2, S1 ---------------------------------------------------------------------

    def _ownership(self, seen: Seen) -> None:
        before = {execution["exec_id"]: execution for execution in self.last["executions"]}
        now = {execution["exec_id"]: execution for execution in seen["executions"]}
        self.check("R1, executions stay", before.keys() <= now.keys(), [list(before), list(now)])
        for exec_id, earlier in before.items():
            later = now[exec_id]
            self.check("O1, epochs never fall", earlier["epoch"] <= later["epoch"], later)
            if earlier["owner"] is not None and later["owner"] not in (None, earlier["owner"]):
                self.check(
                    "O1, a takeover grows the epoch", earlier["epoch"] < later["epoch"], later
                )
                self.check(
                    "O2, the old owner is dead", earlier["owner"] not in seen["owners"], later
                )
            if earlier["status"] in ("completed", "cancelled"):
                self.check("S1, terminal is final", later["status"] == earlier["status"], later)
            owned = later["owner"] is not None
            runs = later["status"] in ("running", "cancelling")
            self.check("an owner while running", owned == runs, later)
            if later["status"] in _FINISHED:
                opened = later["attempt"] > earlier["attempt"]
                kept = opened or len(later["calls"]) >= len(earlier["calls"])
                self.check("R1, rows stay", kept, later)


def _by_mark(seen: Seen) -> dict[str, Any]:
    return {
        call["mark"]: call
        for execution in seen["executions"]
        for call in execution["calls"]
        if call["mark"] is not None
    }


def _marks(text: str) -> list[str]:
    from .harness import MARK

    return MARK.findall(text)
