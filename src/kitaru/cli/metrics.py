"""What Prometheus scrapes from a worker, in its text format.

What the whole fleet has in common (queues, limits) is read from the store, once a scrape;
what this process has done it knows by itself, and tells while the store is away too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kitaru import app as _app
from kitaru._engine.serving import Serving
from kitaru._store.protocol import LimitRow, QueueRow
from kitaru.errors import KitaruBackendError

Samples = Iterable[tuple[dict[str, str], float]]

EVENTS = (
    "started",
    "claimed",
    "taken_over",
    "waiting",
    "retrying",
    "handed_back",
    "lost",
    "cancelling",
    "cancelled",
    "completed",
    "failed",
)
"""Told from the start, at nought: a counter that only appears with its first event has no rate."""


def metrics(serving: Serving) -> str:
    lines = [*_of_store(), *_of_worker(serving)]
    return "".join(f"{line}\n" for line in lines)


# --- what all workers tell alike -----------------------------------------------------------


class Read(NamedTuple):
    queues: list[QueueRow]
    limits: list[LimitRow]
    seconds: float


def _of_store() -> Iterator[str]:
    at = _app.current().env.now()
    found = _read(at)
    text = "1 while the store can be read from here."
    yield from _one("kitaru_store_up", "gauge", text, int(found is not None))
    if found is None:
        return
    text = "How long the store took to answer this scrape."
    yield from _one("kitaru_store_read_seconds", "gauge", text, found.seconds)
    yield from _of_queues(found.queues, at)
    yield from _of_limits(found.limits)


def _read(at: int) -> Read | None:
    """What the store says, unless it is away."""
    app = _app.current()
    if app.services.outage.latch is not None:
        return None  # not waited for: a scrape has its own deadline
    began = app.env.monotonic()
    try:
        queues = app.store.list_queues(project=app.project, at=at)
        limits = app.store.list_limits(project=app.project)
    except KitaruBackendError:
        return None
    return Read(queues, limits, app.env.monotonic() - began)


def _of_queues(queues: Iterable[QueueRow], at: int) -> Iterator[str]:
    rows = [({"queue": row.queue}, row) for row in queues]

    def family(name: str, help: str, samples: Samples) -> list[str]:
        return _family(f"kitaru_queue_{name}", "gauge", help, samples)

    text = "Executions that may begin as soon as a worker and the limits have room."
    yield from family("ready", text, [(queue, row.ready) for queue, row in rows])
    text = "Executions whose hour is still to come."
    yield from family("delayed", text, [(queue, row.delayed) for queue, row in rows])
    text = "Executions that some process runs."
    yield from family("running", text, [(queue, row.running) for queue, row in rows])
    text = "For how long the oldest of those that are ready might have begun; 0: there is none."
    ages = [(q, 0.0 if r.since is None else max(0, at - r.since) / 1e6) for q, r in rows]
    yield from family("oldest_seconds", text, ages)


def _of_limits(limits: Iterable[LimitRow]) -> Iterator[str]:
    rows = [({"limit": row.name}, row) for row in limits]
    taken = [(limit, row.taken) for limit, row in rows]
    text = "Places taken under a limit of a queue or key."
    yield from _family("kitaru_limit_taken", "gauge", text, taken)
    most = [(limit, row.max) for limit, row in rows]
    yield from _family("kitaru_limit_max", "gauge", "Places that there are under a limit.", most)


# --- what this process has done ------------------------------------------------------------


def _of_worker(serving: Serving) -> Iterator[str]:
    app, tally = _app.current(), serving.tally
    gauges: tuple[tuple[str, str, float], ...] = (
        ("running", "Executions that run here.", app.runner.busy),
        ("concurrency", "Executions at once, at most.", serving.wanted.concurrency),
        ("draining", "1 while it is stopping.", int(app.services.draining)),
    )
    for name, help, value in gauges:
        yield from _one(f"kitaru_worker_{name}", "gauge", help, value)
    counters: tuple[tuple[str, str, float], ...] = (
        ("claims", "Claims that were tried.", tally.claims),
        ("claimed", "Executions taken from queues.", tally.claimed),
        ("claim_seconds", "Time that claims took.", tally.claim_seconds),
    )
    for name, help, value in counters:
        yield from _one(f"kitaru_worker_{name}_total", "counter", help, value)
    yield from _family(
        "kitaru_worker_events_total",
        "counter",
        "What happened to executions here; taken_over: from a process that died, lost: to "
        "another one, which fenced this.",
        [({"event": event}, tally.events[f"execution.{event}"]) for event in EVENTS],
    )


# --- the format ----------------------------------------------------------------------------


def _one(name: str, kind: str, help: str, value: float) -> list[str]:
    return _family(name, kind, help, [({}, value)])


def _family(name: str, kind: str, help: str, samples: Samples) -> list[str]:
    lines = [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        said = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{said}}} {value}" if said else f"{name} {value}")
    return lines


def _escaped(text: str) -> str:
    """As the format wants label values.

    >>> _escaped('a"b')
    'a\\\\"b'
    """
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
