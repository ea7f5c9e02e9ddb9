"""Flows whose bodies write rows of their own in the transaction that records them.

Entered into the corpus only where the store is PostgreSQL: see ``test_transactions.py``.
"""

from __future__ import annotations

from typing import Any

import kitaru
from kitaru import Retry, app, checkpoint, flow

from .corpus import Refusal, scenario
from .journal import body

TABLE = "create table paid (exec_id text, mark text unique)"
_INSERT = "insert into paid (exec_id, mark) values (%s, %s)"


def _point(name: str) -> None:
    app.current().env.crash_point(name)


@checkpoint(transaction=True)
def pay(what: str) -> str:
    with body(f"pay({what})") as mark:
        _point("before_row")
        kitaru.connection().execute(_INSERT, (kitaru.current_execution_id(), mark))
        _point("after_row")
        return f"{what}{mark}"


@checkpoint(transaction=True)
async def pay_async(what: str) -> str:
    with body(f"pay_async({what})") as mark:
        connection = kitaru.async_connection()
        async with connection.transaction():
            await connection.execute(_INSERT, (kitaru.current_execution_id(), mark))
        _point("after_row")
        return f"{what}{mark}"


@checkpoint(transaction=True, retries=Retry(max_attempts=2, initial_seconds=0))
def second_time(what: str) -> str:
    with body(f"second_time({what})") as mark:
        kitaru.connection().execute(_INSERT, (kitaru.current_execution_id(), mark))
        if kitaru.current().attempt < 2:
            raise Refusal(f"{what} not yet")
        kitaru.save("receipt", what)
        return f"{what}{mark}" + "x" * 40_000


@flow
def pays() -> list[str]:
    return [pay("a"), second_time("b")[:30], pay("a")]


@flow
async def pays_async() -> list[Any]:
    return [await pay_async("a"), await pay.submit("b"), await pay_async("c")]


def enter() -> None:
    scenario(pays)
    scenario(pays_async)
