"""What was given as ``connection=``: which connection of the driver is behind it.

SQLAlchemy's objects are known by where their classes come from, so that it is loaded for
nobody who does not use it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import psycopg

from kitaru.errors import KitaruUsageError

ASYNC = (
    "is for `await`: write `await flow.options(connection=...).enqueue_async(...)`, which takes "
    "what enqueue() takes"
)
SYNC = "is not for `await`: write flow.options(connection=...).enqueue(...)"


class Given(NamedTuple):
    connection: Any
    """Of psycopg."""
    raised: Callable[[psycopg.Error], Exception] = lambda error: error
    """The error as whoever gave it knows it."""
    left: Callable[[], None] = lambda: None
    """What was begun on it here is undone."""


def opened(given: Any) -> Given:
    """The connection behind it, with its transaction begun where that is for us to do."""
    if isinstance(given, psycopg.Connection):
        return Given(given)
    if isinstance(given, psycopg.AsyncConnection):
        raise refused(given, ASYNC)
    alchemy = _alchemy(given)
    if alchemy is None:
        raise refused(given, "is none: give one of psycopg or SQLAlchemy, or a Session")
    found: Given = alchemy.opened(given)
    return found


async def opened_async(given: Any) -> Given:
    if isinstance(given, psycopg.AsyncConnection):
        return Given(given)
    if isinstance(given, psycopg.Connection):
        raise refused(given, SYNC)
    alchemy = _alchemy(given)
    if alchemy is None:
        raise refused(given, "is none: give an async one of psycopg or SQLAlchemy")
    found: Given = await alchemy.opened_async(given)
    return found


def _alchemy(given: object) -> ModuleType | None:
    """The door to SQLAlchemy, if it comes from there."""
    if not any(kind.__module__.partition(".")[0] == "sqlalchemy" for kind in type(given).__mro__):
        return None
    from kitaru._store.postgres import alchemy

    return alchemy


def refused(given: object, why: str) -> KitaruUsageError:
    kind = type(given)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    return KitaruUsageError(
        f"options(connection=): a {name} {why}. Nothing was "
        "started: see `kitaru explain connection-unfit`",
        code="connection-unfit",
    )
