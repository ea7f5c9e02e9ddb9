"""What a finished execution gives to whoever asks: its result, or a typed error."""

from __future__ import annotations

from typing import Any, NoReturn

from kitaru._core.lifecycle import State
from kitaru._core.naming import shown_name
from kitaru._core.payload import Payload
from kitaru._core.values import decode, decode_failure
from kitaru._engine.execution import FlowSpec, flow_hints
from kitaru._engine.frames import show_recorded_frames
from kitaru._store.protocol import ExecutionRow, Store
from kitaru.errors import (
    FailureOrigin,
    KitaruCancelledError,
    KitaruDivergenceError,
    KitaruExecutionError,
    KitaruUserCodeError,
)
from kitaru.status import ExecutionStatus


def open_result(payload: Payload, flow_name: str, flow: FlowSpec | None) -> Any:
    """The decoded record of what the flow returned."""
    hints = () if flow is None else flow_hints(flow)
    return decode(payload, what=f"flow {flow_name}", hints=hints, checked=True)


def raise_failure(store: Store, row: ExecutionRow, cause: BaseException | None) -> NoReturn:
    """Raise what a failed or cancelled execution comes to.

    ``cause`` is the very exception that left the flow, if it ran in this
    process; else the recorded one is rebuilt.
    """
    status = ExecutionStatus(row.status.value)
    about = f"execution {row.exec_id} of flow {row.flow_name!r}"
    if row.status is State.CANCELLED or row.failure is None:
        raise KitaruCancelledError(
            f"{about} was {_cancelled(row.status_reason)}. What it recorded is kept; "
            "run the flow again for a new execution",
            exec_id=row.exec_id,
            status=status,
            code="execution-cancelled",
        )
    failure = decode_failure(row.failure)
    info = failure.info
    checkpoint = checkpoint_behind(store, row, failure.exception)
    kind = {
        FailureOrigin.USER_CODE: KitaruUserCodeError,
        FailureOrigin.DIVERGENCE: KitaruDivergenceError,
    }.get(info.origin, KitaruExecutionError)
    where = f" in checkpoint {checkpoint!r}" if checkpoint else ""
    message = f": {info.message}" if info.message else ""
    remedy = (
        "A retry diverges again until the code is mended"
        if info.origin is FailureOrigin.DIVERGENCE
        else "Run what failed again"
    )
    error: KitaruExecutionError = kind(
        f"{about} failed{where}: {info.exception_type}{message}\n"
        f"Look: kitaru executions get {row.exec_id}   "
        f"{remedy}: kitaru executions retry {row.exec_id}",
        code=info.code,
        exec_id=row.exec_id,
        status=status,
        failure_origin=info.origin,
        failure=info,
        checkpoint=checkpoint,
    )
    if cause is None:
        cause = failure.exception
        show_recorded_frames(cause, info.traceback)
    raise error from cause


def _cancelled(reason: str | None) -> str:
    """Who cancelled, and why: as it was recorded, or that of a wait that was aborted."""
    if reason is None or reason.startswith("cancelled"):
        return reason or "cancelled"
    return f"cancelled: {reason}"


def checkpoint_behind(store: Store, row: ExecutionRow, exc: BaseException) -> str | None:
    """The name of the checkpoint whose failure left the flow, if one did."""
    if not row.failed_calls:
        # One that never ran, because a strict flow stopped before it.
        return exc.checkpoint if isinstance(exc, KitaruDivergenceError) else None
    found = store.find_checkpoint(row.id, row.failed_calls[0])
    return None if found is None else shown_name(found, row.code_module)
