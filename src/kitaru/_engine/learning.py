"""What a flow learns from outside its own calls: read once, and the same in every life.

A fact is found by the identity of its asking, like ``now()``. What was read is queued
and committed before anything that could depend on it leaves the execution (R4); what
is written to memory is committed at once, together with the fact that it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from kitaru._core.identity import asked_identity
from kitaru._engine.context import Place
from kitaru._engine.effects import Commit, Land, Steps
from kitaru._store.protocol import LearntRow, MemoryRow, Record
from kitaru.errors import KitaruContextError


def identity_of(place: Place, kind: str, name: str) -> bytes:
    """Which asking this is: of its kind and name the n-th, in this attempt and branch."""
    if place.attempt.is_closed:
        raise KitaruContextError(
            f"kitaru.{kind} was called by something that the flow left running: the attempt in "
            "which it belonged is over. Await tasks and threads before returning",
            code="attempt-is-over",
        )
    n = place.branch.ask(kind, name)
    attempt = place.attempt
    return asked_identity(attempt.identity, attempt.number, place.branch.digest, kind, name, n)


def learn(
    place: Place, kind: str, name: str, look: Callable[[], Mapping[str, Any]]
) -> Mapping[str, Any]:
    """What this asking came to when it was first asked; ``look`` is called then, and only then.

    What ``look`` raises is no fact: it is asked again in the next life.
    """
    run = place.run
    identity = identity_of(place, kind, name)
    recorded = run.learnt.get(identity)
    if recorded is None:
        recorded = json.dumps({**look(), "at": run.env.now()})
        run.learnt[identity] = recorded
        run.queue(LearntRow(identity, kind, recorded))
    found: Mapping[str, Any] = json.loads(recorded)
    return found


def write_once(place: Place, kind: str, name: str, row: MemoryRow) -> None:
    """Write a version of a key of memory, unless an earlier life did; durable on return."""
    run = place.run
    identity = identity_of(place, kind, name)
    if identity not in run.learnt:
        run.services.drive(_write(place, kind, row._replace(identity=identity)), run.env)


def _write(place: Place, kind: str, row: MemoryRow) -> Steps[None]:
    run = place.run
    identity = row.identity
    assert identity is not None
    # What others of this execution have learnt may be why this is written: it comes first.
    for flight in run.flights:
        yield Land(run, flight)
    run.check()
    fact = json.dumps({"scope": [row.scope_type, row.scope], "key": row.key, "at": row.at})
    run.learnt[identity] = fact
    # Queued together, so that no transaction has one without the other.
    run.queue(LearntRow(identity, kind, fact), row)
    if run.owes:
        facts = run.take_facts()
        yield Commit(run, Record(run.id, run.epoch, facts), facts)
    # Another branch's transaction may have taken it along.
    for flight in run.flights:
        yield Land(run, flight)
    run.check()
