"""What the bodies of the corpus did, written where no store can lose it.

One line per event, appended to a plain file by one ``write`` each, so that a
process that is killed leaves whole lines and nothing else. Knows the public API
of Kitaru and nothing of its store: the promises are judged elsewhere
(``promises.py``) from these lines and from what the store says.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import kitaru


class Life(NamedTuple):
    """One process in the life of an execution: which one, and what differs in it."""

    number: int
    seed: int
    variant: str
    journal: str


_life: Life = Life(0, 0, "", os.devnull)
_descriptor = -1
_callers: ContextVar[str] = ContextVar("callers", default="")
"""The calls around this one with the attempt of each: within it a success is never repeated."""


def begin(life: Life) -> None:
    """This process is that life from now on, and so are those that it starts for single bodies."""
    global _life, _descriptor
    _life = life
    os.environ["CRASH_LIFE"] = json.dumps(life)
    _descriptor = os.open(life.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


if "CRASH_LIFE" in os.environ:
    begin(Life(*json.loads(os.environ["CRASH_LIFE"])))


def variant() -> str:
    return _life.variant


def life() -> int:
    return _life.number


def write(event: str, **facts: Any) -> None:
    line = json.dumps({"life": _life.number, "event": event, **facts})
    os.write(_descriptor, line.encode() + b"\n")


@contextmanager
def body(label: str) -> Iterator[str]:
    """Around a checkpoint's body: says that it starts, and gives it a mark that no other has.

    The mark is logged too, so that the recorded attempt names the very start
    that it came from.
    """
    where = kitaru.current()
    mark = "~" + uuid.uuid4().hex[:12]
    kitaru.log(mark=mark)
    key, attempt = where.idempotency_key, where.attempt
    write("start", label=label, call=_callers.get() + key, attempt=attempt, mark=mark)
    token = _callers.set(f"{_callers.get()}{key}@{attempt}/")
    try:
        yield mark
    except BaseException as error:
        write("raise", mark=mark, error=type(error).__name__)
        raise
    finally:
        _callers.reset(token)
    write("end", mark=mark)


def got(where: str, value: Any) -> Any:
    """The flow has received this there: from now on it may not become another value."""
    write("got", where=where, value=json.dumps(value, default=str, sort_keys=True))
    return value


def learnt(where: str, value: Any) -> Any:
    """The flow has learnt this fact: durable before the next body starts."""
    write("learnt", where=where, value=str(value))
    return value


# --- who is quicker differs from life to life -------------------------------------------


def _turns(label: str) -> int:
    return random.Random(f"{_life.seed}/{_life.number}/{label}").randrange(6)


def dally(label: str) -> None:
    """Give up the processor a few times: how often differs from life to life."""
    for _ in range(_turns(label)):
        time.sleep(0)


async def dawdle(label: str) -> None:
    """Let others of the loop go first: how often differs from life to life."""
    for _ in range(_turns(label)):
        await asyncio.sleep(0)
