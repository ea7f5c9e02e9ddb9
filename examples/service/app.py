"""An HTTP service that makes invoices: POST a batch, follow it, restart the server, lose nothing.

Run it with `uvicorn app:app`. Needs fastapi and uvicorn.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from billing import Batch, Invoice, bill
from fastapi import FastAPI, Header, HTTPException, Response
from pydantic import BaseModel

import kitaru
from kitaru import ExecutionStatus, KitaruClient


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # What the last server left unfinished, this one goes on with, within two seconds.
    # That is all there is to surviving a restart, a deployment or a crash.
    kitaru.recover()
    yield


app = FastAPI(title="Invoices", lifespan=lifespan)


class Progress(BaseModel):
    id: str
    status: ExecutionStatus
    invoices_done: int
    invoices_total: int | None = None
    result: list[Invoice] | None = None
    problem: str | None = None


# These endpoints are `def`, not `async def`: they ask the store, and FastAPI calls them on
# its threads, so that the event loop never waits for a disk.
@app.post("/batches", status_code=202)
def start(batch: Batch, response: Response, idempotency_key: Annotated[str, Header()]) -> Progress:
    # The client's idempotency key is the execution's: a POST that is repeated, because the
    # answer was lost or the server died, finds the same execution instead of billing twice.
    try:
        handle = bill.options(key=idempotency_key).run(batch)
    except kitaru.KitaruStateError as error:
        raise HTTPException(409, str(error)) from error  # the key was used for another batch
    response.headers["Location"] = f"/batches/{handle.exec_id}"
    return progress_of(handle.exec_id)


@app.get("/batches/{exec_id}")
def follow(exec_id: str) -> Progress:
    return progress_of(exec_id)


@app.get("/batches/{exec_id}/result")
async def result(exec_id: str) -> list[Invoice]:
    """Answers when it is done. A handle is awaitable: a waiting client costs no thread."""
    try:
        return await bill.handle(exec_id)
    except kitaru.KitaruNotFoundError as error:
        raise HTTPException(404, str(error)) from error
    except kitaru.KitaruExecutionError as error:
        raise HTTPException(500, str(error)) from error


def progress_of(exec_id: str) -> Progress:
    try:
        execution = KitaruClient().executions.get(exec_id)
    except kitaru.KitaruNotFoundError as error:
        raise HTTPException(404, str(error)) from error
    done = [call for call in execution.checkpoints if call.status == "completed"]
    is_done = execution.status is ExecutionStatus.COMPLETED
    return Progress(
        id=execution.exec_id,
        status=execution.status,
        invoices_done=len(done),
        invoices_total=execution.metadata.get("orders"),
        result=execution.result() if is_done else None,
        problem=execution.status_reason if execution.failure else None,
    )
