"""This process as a worker: which flows it serves, how it begins, and how it leaves.

Knows nothing of command lines and signals: ``kitaru worker`` does, and tests that
make a worker of their own process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from kitaru import app as _app
from kitaru._core.names import nearest, shortened
from kitaru._core.queueing import DEFAULT_QUEUE
from kitaru._engine.draining import drain
from kitaru._engine.execution import FlowSpec
from kitaru._engine.schedules import Schedules
from kitaru._engine.serving import Serving, Wanted
from kitaru._store.protocol import Refused
from kitaru.errors import KitaruBackendError, KitaruStateError, KitaruUsageError


class Left(NamedTuple):
    """What a worker that leaves says."""

    handed_back: Sequence[str]
    """Executions that were running here, and that others go on with."""
    unfinished_bodies: int
    """Of those, how many had a body that did not finish in time: it runs again elsewhere."""


def choose_flows(names: Sequence[str], known: Mapping[str, FlowSpec]) -> dict[str, FlowSpec]:
    """Those of the known flows, by id and alias, that are named; all if none is.

    Raises ``KitaruUsageError`` if there is none, or no such one.
    """
    if not known:
        raise KitaruUsageError(
            "there is no flow to serve: the modules define none. Name those in which functions "
            "are decorated with @flow",
            code="flow-not-found",
        )
    chosen: dict[str, FlowSpec] = {}
    for name in names:
        found = {id: spec for id, spec in known.items() if name in (id, spec.name, spec.id)}
        if not found:
            shown = sorted({spec.name for spec in known.values()})
            meant = nearest(name, shown)
            hint = f"did you mean {meant!r}?" if meant else f"there are {', '.join(shown)}"
            raise KitaruUsageError(
                f"the modules define no flow {shortened(name)}: {hint}", code="flow-not-found"
            )
        chosen |= found
    return chosen or dict(known)


def begin(
    flows: Mapping[str, FlowSpec],
    *,
    name: str,
    queues: Sequence[str],
    concurrency: int,
    ready: Callable[[Serving], None] = lambda serving: None,
) -> Serving:
    """From now on this process claims what is queued, and goes on with what the dead left.

    ``ready`` is called once it is a worker, and before anything is claimed.
    """
    app = _app.current()
    fixed = dict(flows)
    wanted = Wanted(name, lambda: fixed, tuple(queues), concurrency)
    if not queues or DEFAULT_QUEUE in queues:
        schedules = Schedules(app.runner)
        schedules.register(fixed)
        wanted = wanted._replace(fire_due=schedules.fire_due)
    serving = Serving(app.runner, wanted)
    app.runner.places.max_active = concurrency
    try:
        serving.enlist()
    except Refused as error:
        raise KitaruStateError(
            f"this process cannot be a worker: {error}", code="process-declared-dead"
        ) from error
    ready(serving)
    app.runner.serving = serving
    app.host.keep_ticking()
    return serving


def stop_claiming() -> None:
    """Begin nothing from now on, and let everybody see that."""
    app = _app.current()
    app.services.draining = True
    serving = app.runner.serving
    if serving is not None:
        with contextlib.suppress(KitaruBackendError, Refused):
            serving.drain()


def leave(seconds: float) -> Left:
    """Let bodies finish for ``seconds``, hand back the rest, and be nobody's owner any more."""
    app = _app.current()
    stop_claiming()
    handed_back = drain(app.runner, seconds)
    bodies = sum(1 for life in app.runner.lives() if life.run.bodies)
    app.host.stop()  # a tick would make this process an owner anew
    # Whatever was parked here is nobody's from now on: others wake it, and claim it when answered.
    app.runner.ownership.retire()
    if app.services.logs is not None:
        app.services.logs.close()
    return Left(handed_back, bodies)
