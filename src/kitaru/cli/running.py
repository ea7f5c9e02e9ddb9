"""The commands that run an execution here: run, resume, retry; each to its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from kitaru import app as _app
from kitaru import settings
from kitaru._core.lifecycle import FINISHED
from kitaru._engine.events import Event
from kitaru._store.protocol import ExecutionRow
from kitaru.cli.arguments import read_arguments, read_inputs, read_overrides
from kitaru.cli.follow import catch_sigterm, follow
from kitaru.cli.live import View, showing
from kitaru.cli.output import Session
from kitaru.cli.place import insist_on_store, root_of_project
from kitaru.cli.shown import as_data, print_result, recorded_result
from kitaru.client import KitaruClient
from kitaru.errors import KitaruExecutionError, KitaruStateError
from kitaru.flows import Flow
from kitaru.handles import FlowHandle
from kitaru.importing import import_recorded, import_target
from kitaru.target import is_file, split_target, stand_for_script


def run_target(
    session: Session,
    target: str,
    words: Sequence[str],
    *,
    as_json: str | None,
    key: str | None,
    no_cache: bool,
    detach: bool = False,
    queueing: Mapping[str, Any] = {},
) -> int:
    """Import the flow, run it, print its result -> the exit status."""
    catch_sigterm()
    cwd = settings.current_folder()
    where, name = split_target(target, cwd=cwd)
    session.keep_stdout_for_result()
    with showing(session) as view:
        if is_file(where):
            stand_for_script(where, cwd=cwd)
        flow = import_target(where, name, cwd=cwd)
        session.insist_on_store()
        args, kwargs = read_arguments(flow, as_json, words)
        chosen = flow.options(key=key, cache=False if no_cache else None, **queueing)
        is_queued = any(value is not None for value in queueing.values())
        _start(view, detach)
        with _announcing(session, flow.spec.name) as announced:
            handle = (chosen.enqueue if is_queued else chosen.run)(*args, **kwargs)
        if not announced:
            session.progress(f"execution {handle.exec_id} of flow {flow.spec.name!r}")
        if detach and (is_queued or settings.current().enqueues):
            session.progress("it is queued for a worker: kitaru worker MODULE")
            return _end(session, handle, None)
        error = follow(session, handle, view, detach=detach)
    return _end(session, handle, error)


@contextmanager
def _announcing(session: Session, flow_name: str) -> Iterator[list[str]]:
    """Name the execution once it is recorded, before anything of it runs: it may ask something."""
    announced: list[str] = []

    def heard(event: Event) -> None:
        if not announced and event.name in ("execution.started", "execution.queued"):
            announced.append(event.exec_id)
            session.progress(f"execution {event.exec_id} of flow {flow_name!r}")

    end = _app.current().services.events.listen(heard)
    try:
        yield announced
    finally:
        end()


def resume(session: Session, exec_id: str, code: str | None, *, detach: bool = False) -> int:
    catch_sigterm()
    insist_on_store()
    executions = KitaruClient().executions
    row = executions.find_row(exec_id)
    executions.check_resumable(row)
    with showing(session) as view:
        import_flow(session, row, code)
        _start(view, detach)
        handle = executions.resume(row.exec_id)
        session.progress(f"execution {row.exec_id} of flow {row.flow_name!r} goes on")
        error = follow(session, handle, view, detach=detach)
    return _end(session, handle, error)


def resume_or_follow(session: Session, exec_id: str, code: str | None, *, served: bool) -> int:
    """Run an execution here, unless a live process serves it: then follow it to its end."""
    executions = KitaruClient().executions
    row = executions.find_row(exec_id)
    if row.status in FINISHED or served:
        return _follow(session, executions.handle(row.exec_id))
    try:
        executions.check_resumable(row)
    except KitaruStateError:
        # Somebody was quicker: a worker, or a program that recovers.
        return _follow(session, executions.handle(row.exec_id))
    return resume(session, row.exec_id, code)


def _follow(session: Session, handle: FlowHandle[Any]) -> int:
    catch_sigterm()
    with showing(session) as view:
        error = follow(session, handle, view)
    return _end(session, handle, error)


def retry(session: Session, exec_id: str, code: str | None, *, detach: bool = False) -> int:
    catch_sigterm()
    insist_on_store()
    executions = KitaruClient().executions
    row = executions.find_row(exec_id)
    executions.check_retryable(row)
    with showing(session) as view:
        import_flow(session, row, code)
        _start(view, detach)
        handle = executions.retry(row.exec_id)
        error = follow(session, handle, view, detach=detach)
    return _end(session, handle, error)


def replay(
    session: Session,
    exec_id: str,
    *,
    code: str | None,
    from_: str | None,
    as_json: str | None,
    overrides: str | None,
    detach: bool = False,
) -> int:
    """Make a new execution from an old one, run it to its end, print its result."""
    catch_sigterm()
    insist_on_store()
    executions = KitaruClient().executions
    row = executions.find_row(exec_id)
    with showing(session) as view:
        flow = import_flow(session, row, code)
        inputs = read_inputs(flow, as_json)
        given = read_overrides(overrides, executions.list_checkpoints(row.exec_id))
        _start(view, detach)
        handle = flow.replay(row.exec_id, from_, given, **inputs)
        session.progress(
            f"execution {handle.exec_id} of flow {row.flow_name!r} replays {row.exec_id}"
        )
        error = follow(session, handle, view, detach=detach)
    return _end(session, handle, error)


def _start(view: View, detach: bool) -> None:
    services = _app.current().services
    view.start(services)
    if detach:
        services.asker.enabled = False  # whoever leaves is not asked


def import_flow(session: Session, row: ExecutionRow, code: str | None) -> Flow[Any, Any]:
    session.keep_stdout_for_result()
    return import_recorded(row, root=root_of_project(_app.current().store), code=code)


def _end(session: Session, handle: FlowHandle[Any], error: KitaruExecutionError | None) -> int:
    """Print the result, or say what failed -> the exit status.

    Of one that was left while it waits there is no result; how it goes on is said at the exit.
    """
    waits = error is None and not handle.status.is_finished
    if session.as_json:
        item = as_data(KitaruClient().executions.get(handle.exec_id))
        if error is None and not waits:
            item["result"] = _result(handle)
        session.item(item)
    elif error is None and not waits:
        print_result(_result(handle))
    if error is None:
        return 0
    session.fail(error)
    return 1


def _result(handle: FlowHandle[Any]) -> Any:
    return recorded_result(KitaruClient().executions.find_row(handle.exec_id))
