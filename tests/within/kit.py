"""What the tests of one transaction look at: from outside, on a connection of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg

import kitaru
from kitaru import flow

PATIENCE_SECONDS = 100


@flow
def ship(order: object) -> object:
    return order


def order(connection: psycopg.Connection[Any], number: int) -> None:
    connection.execute("insert into orders values (%s)", (number,))


def asked(database: str, sql: str) -> list[Any]:
    with psycopg.connect(database, autocommit=True) as connection:
        return connection.execute(sql.encode()).fetchall()


def orders(database: str) -> list[int]:
    return [number for (number,) in asked(database, "select number from orders order by 1")]


def executions(database: str) -> list[str]:
    return [one for (one,) in asked(database, "select exec_id from kitaru.executions order by id")]


class Later:
    """Something that another thread does, and perhaps waits in."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._answer: Any = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answer = self._function()
        except Exception as error:
            self._answer = error

    def answer(self) -> Any:
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive(), "it waits for ever"
        return self._answer


def wait_for_a_lock(database: str) -> None:
    """Until another connection of this database waits for a lock."""
    waiting = (
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and wait_event_type = 'Lock'"
    )
    pause = threading.Event()
    with psycopg.connect(database, autocommit=True) as connection:
        for _ in range(PATIENCE_SECONDS * 50):
            found = connection.execute(waiting.encode()).fetchone()
            if found is not None and found[0]:
                return
            pause.wait(0.02)
    raise AssertionError("nobody waits for a lock")


def is_there(handle: kitaru.FlowHandle[Any]) -> bool:
    try:
        return bool(handle.status)
    except kitaru.KitaruNotFoundError as error:
        if error.code != "execution-not-committed":
            raise
        return False
