"""What a finished execution gives to whoever asks: its result, or a typed error."""

from __future__ import annotations

from typing import Any, NoReturn

from kitaru._core.lifecycle import State
from kitaru._core.values import decode, decode_failure
from kitaru._engine.execution import FlowSpec, flow_hints
from kitaru._store.protocol import ExecutionRow, Store
from kitaru.errors import (
    FailureOrigin,
    KitaruCancelledError,
    KitaruDivergenceError,
    KitaruExecutionError,
    KitaruUserCodeError,
)
from kitaru.model import ExecutionStatus


def open_result(row: ExecutionRow, flow: FlowSpec | None) -> Any:
    """The decoded record of what the flow returned."""
    assert row.result is not None
    hints = () if flow is None else flow_hints(flow)
    return decode(row.result, what=f"flow {row.flow_name}", hints=hints)


def raise_failure(store: Store, row: ExecutionRow, cause: BaseException | None) -> NoReturn:
    """Raise what a failed or cancelled execution comes to.

    ``cause`` is the very exception that left the flow, if it ran in this
    process; else the recorded one is rebuilt.
    """
    status = ExecutionStatus(row.status.value)
    about = f"execution {row.exec_id} of flow {row.flow_name!r}"
    if row.status is State.CANCELLED or row.failure is None:
        raise KitaruCancelledError(f"{about} was cancelled", exec_id=row.exec_id, status=status)
    failure = decode_failure(row.failure)
    info = failure.info
    checkpoint = checkpoint_behind(store, row)
    kind = {
        FailureOrigin.USER_CODE: KitaruUserCodeError,
        FailureOrigin.DIVERGENCE: KitaruDivergenceError,
    }.get(info.origin, KitaruExecutionError)
    where = f" in checkpoint {checkpoint!r}" if checkpoint else ""
    message = f": {info.message}" if info.message else ""
    error: KitaruExecutionError = kind(
        f"{about} failed{where}: {info.exception_type}{message}\n"
        f"Look: kitaru executions get {row.exec_id}   "
        f"Run what failed again: kitaru executions retry {row.exec_id}",
        exec_id=row.exec_id,
        status=status,
        failure_origin=info.origin,
        failure=info,
        checkpoint=checkpoint,
    )
    raise error from (cause if cause is not None else failure.exception)


def checkpoint_behind(store: Store, row: ExecutionRow) -> str | None:
    """The name of the checkpoint whose failure left the flow, if one did."""
    if not row.failed_calls:
        return None
    return store.find_checkpoint(row.id, row.failed_calls[0])
