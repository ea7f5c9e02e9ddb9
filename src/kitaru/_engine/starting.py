"""From the arguments of ``run()`` to a recorded execution."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any

from kitaru import settings
from kitaru._core.inputs import Inputs, digest_inputs, digest_tree
from kitaru._core.objects import captured_values
from kitaru._core.payload import Payload
from kitaru._core.values import encode
from kitaru._core.values.classes import FRESH, take_fresh
from kitaru._engine import births
from kitaru._engine.children import Child, place_for_child, start_child
from kitaru._engine.claiming import DECLARED_DEAD
from kitaru._engine.context import Place
from kitaru._engine.deadlines import deadline_of
from kitaru._engine.execution import Completion, FlowSpec
from kitaru._engine.fingerprint import code_digest
from kitaru._engine.queueing import NOTHING_SAID, Queueing, say_limits
from kitaru._engine.replaying import Replay, replay_of_child
from kitaru._engine.runner import Runner
from kitaru._engine.services import Services
from kitaru._engine.watch import say_local_classes
from kitaru._engine.within import Within
from kitaru._store.protocol import ExecutionRow, Fenced, Start
from kitaru.errors import (
    KitaruBackendError,
    KitaruUsageError,
)

_LASTING = frozenset({str, int, bool, type(None)})


def start_execution(
    services: Services,
    runner: Runner,
    flow: FlowSpec,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    key: str | None,
    tags: tuple[str, ...],
    cache: bool | str | None,
    retries: int | None,
    replay: Replay | None = None,
    timeout_seconds: float | None = None,
    queueing: Queueing = NOTHING_SAID,
    enqueue: bool = False,
    within: Within | None = None,
) -> tuple[ExecutionRow, Completion | None, Child | None]:
    """Check the inputs, record the execution and launch it; or find the one with its key.

    ``enqueue``: it is only recorded, for a worker to run; ``within``: in that transaction.
    """
    resolved = settings.current()
    _refuse_early(services, flow, queueing, enqueue)
    place = place_for_child(flow, joins=within is not None)
    child = None
    bound = _bound(flow, args, kwargs)
    inputs, env = _encoded(services, flow, bound), services.env
    seconds = flow.timeout_seconds if timeout_seconds is None else timeout_seconds
    now = env.now()
    if place is not None:
        child = Child(place, flow, _inputs(flow, bound), key, is_queued=enqueue)
        cache, replay = _from_parent(services, place, child, cache, replay)
    spec = frozen_spec(flow, cache, retries, resolved, replay, timeout_seconds=seconds)
    new = Start(
        exec_id=env.new_id(),
        project=services.project,
        flow_id=flow.id,
        flow_name=flow.name,
        key=key,
        # Without a key it only serves to tell runs of the same inputs apart.
        inputs_digest=inputs.digest[:16] if key is None else _digest(flow, bound, replay),
        inputs=inputs,
        seed=env.random_bytes(16) if replay is None else replay.source.seed,
        spec=json.dumps(spec),
        tags=json.dumps(tags),
        code_folder=flow.folder,
        code_module=flow.module,
        owner=None,
        home=None,
        original_exec_id=None if replay is None else replay.source.exec_id,
        at=now,
        # Of what is delayed the time begins when it is due.
        deadline_at=deadline_of(seconds, queueing.due_at(now) or now),
        keep_seconds=flow.keep_seconds,
    )
    new = queueing.born(new, None if place is None else place.run.row)
    say_limits(services, resolved.queue_limits)
    if key is None and replay is None and not enqueue and child is None:
        _say_interrupted(services, runner, flow, new)
    return _record(partial(_start, runner, flow, enqueue, within), runner, new, child, spec)


def _refuse_early(services: Services, flow: FlowSpec, queueing: Queueing, enqueue: bool) -> None:
    _refuse_importing(services, flow)
    if not enqueue:
        _refuse_queueing(flow, queueing)


def _record(
    start: Callable[..., tuple[ExecutionRow, Completion | None]],
    runner: Runner,
    new: Start,
    child: Child | None,
    spec: dict[str, Any],
) -> tuple[ExecutionRow, Completion | None, Child | None]:
    if child is not None:
        return *start_child(runner, child, child.born(new, spec), start), child
    try:
        row, completion = start(new)
    except Fenced as error:
        raise KitaruBackendError(DECLARED_DEAD, code="process-declared-dead") from error
    return row, completion, None


def _start(
    runner: Runner,
    flow: FlowSpec,
    enqueue: bool,
    within: Within | None,
    new: Start,
    context: Context | None = None,
) -> tuple[ExecutionRow, Completion | None]:
    found = _find_by_alias(runner, flow, new, take=not enqueue)
    if found is not None:
        return found
    if enqueue:
        return births.enqueue(runner, flow, new, within)
    return births.start(runner, flow, new, context)


def _refuse_queueing(flow: FlowSpec, queueing: Queueing) -> None:
    said = queueing.said()
    if said:
        options = ", ".join(f"{name}=…" for name in said)
        raise KitaruUsageError(
            f"flow {flow.name!r}: run() runs it here and now, so it stands in no queue. Write "
            f"{flow.name}.options({options}).enqueue(...), which a worker runs (kitaru worker), or "
            'kitaru.configure(runner="worker")',
            code="run-in-a-queue",
        )


def _bound(flow: FlowSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    bound = flow.binder.bind(args, kwargs)
    _check_fit(flow, bound)
    return bound


def _encoded(services: Services, flow: FlowSpec, bound: dict[str, Any]) -> Payload:
    if FRESH:
        take_fresh()
    inputs = encode(bound, what=f"flow {flow.name}")
    if FRESH:
        say_local_classes(services, f"flow {flow.name!r} is given", take_fresh())
    return inputs


def _from_parent(
    services: Services,
    place: Place,
    child: Child,
    cache: bool | str | None,
    replay: Replay | None,
) -> tuple[bool | str | None, Replay | None]:
    """What a child has of its parent: how it reuses, and the child of a replayed execution."""
    if cache is None:
        cache = place.run.spec.get("cache_of_run")
    if place.run.past is not None:
        replay = replay_of_child(services, place.run.past, child)
        if replay is None and cache is None:
            cache = "refresh"  # whoever replays wants what is not kept to be run
    return cache, replay


def _refuse_importing(services: Services, flow: FlowSpec) -> None:
    if services.importing:
        raise KitaruUsageError(
            f"flow {flow.name!r} is run while Kitaru imports its module: put the run under\n"
            '    if __name__ == "__main__":\n        ...',
            code="flow-run-during-import",
        )


def _find_by_alias(
    runner: Runner, flow: FlowSpec, new: Start, *, take: bool
) -> tuple[ExecutionRow, Completion | None] | None:
    """The execution that has the key under a former name of the flow."""
    if new.key is None or not flow.aliases:
        return None
    if runner.store.find_by_key(project=new.project, flow_id=flow.id, key=new.key) is not None:
        return None
    for alias in flow.aliases:
        row = runner.store.find_by_key(project=new.project, flow_id=alias, key=new.key)
        if row is not None:
            if take:
                return row, births.take_by_key(runner, flow, row, new)
            births.check_same_inputs(flow, row, new)
            return row, None
    return None


def _digest(flow: FlowSpec, bound: dict[str, Any], replay: Replay | None) -> bytes:
    """What runs with one key are compared by: the inputs, and what a closure has captured."""
    inputs = _inputs(flow, bound)
    counted = {name: inputs.arguments[name] for name in bound if name in inputs.arguments}
    if flow.binder.may_capture:
        # Only what lasts: a list that grows while the program runs would make equal runs differ.
        captured = captured_values(flow.fn).items()
        counted |= {name: digest_tree(one) for name, one in captured if type(one) in _LASTING}
    found: dict[str, Any] = {name: digest.hex() for name, digest in counted.items()}
    if replay is not None:
        found["the replay"] = replay.spec.as_data()
    return digest_tree(found)


def _inputs(flow: FlowSpec, bound: dict[str, Any]) -> Inputs:
    return digest_inputs(
        bound, binder=flow.binder, code_digest=code_digest, file_facts=lambda _: None
    )


def frozen_spec(
    flow: FlowSpec,
    cache: bool | str | None,
    retries: int | None,
    resolved: settings.Settings,
    replay: Replay | None = None,
    *,
    timeout_seconds: float | None = None,
) -> dict[str, Any]:
    """The resolved options that hold for the whole life of the execution."""
    default = settings.default_cache(flow=flow.cache, settings=resolved)  # type: ignore[arg-type]
    chosen = settings.resolve_retries(run=retries, flow=flow.retries, settings=resolved)
    spec: dict[str, Any] = {"cache": list(default), "retries": chosen.value}
    if cache is not None:
        spec["cache_of_run"] = cache
    if flow.strict:
        spec["strict"] = True
    if replay is not None:
        spec["replay"] = replay.spec.as_data()
        fired = json.loads(replay.source.spec).get("schedule")
        if fired is not None:
            spec["schedule"] = fired
    if timeout_seconds is not None:
        spec["timeout_seconds"] = timeout_seconds
    return spec


def _check_fit(flow: FlowSpec, bound: dict[str, Any]) -> None:
    from kitaru._core.fitting import misfit
    from kitaru._core.hints import hints_of

    if flow.annotations is None:
        flow.annotations = hints_of(flow.fn)
    if not flow.annotations:
        return
    for name, value in bound.items():
        hint = flow.annotations.get(name.lstrip("*")) if not name.startswith("*") else None
        if hint is None:
            continue
        wrong = misfit(value, hint, name)
        if wrong is not None:
            raise KitaruUsageError(
                f"flow {flow.name!r}: {wrong}. Nothing was started; pass what the annotation says",
                code="argument-of-wrong-type",
            )


def _say_interrupted(services: Services, runner: Runner, flow: FlowSpec, new: Start) -> None:
    """Once per flow and inputs: an earlier run of this stands there unfinished."""
    left = runner.interrupted_before(flow)
    exec_id = left.pop(new.inputs_digest, None)
    if exec_id is not None:
        services.say(
            f"an interrupted execution of flow {flow.name!r} with these inputs stands there: "
            f"{exec_id}. This is a new one, which reuses what it can; to continue the old one: "
            f"kitaru executions resume {exec_id}"
        )
