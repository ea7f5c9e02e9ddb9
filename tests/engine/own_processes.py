"""Checkpoints that run in processes of their own: a small module, so that those load little."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kitaru
from kitaru import Retry, checkpoint, flow

log = logging.getLogger("own.processes")

own = functools.partial(checkpoint, runtime="process", cache=False)


@dataclass(frozen=True)
class Point:
    x: int
    tags: tuple[str, ...] = ()


@own()
def echo(value: Any, *rest: Any, named: Any = None) -> Any:
    return [os.getpid(), value, rest, named]


@own()
async def echo_async(number: int) -> tuple[int, int]:
    await asyncio.sleep(0)
    return number, os.getpid()


@own()
def make_point(x: int) -> Point:
    return Point(x, ("made",))


@own(type="tool_call")
def say(name: str) -> dict[str, Any]:
    print("hello", name)
    print("half a ", end="")
    print("line")
    print("careful", file=sys.stderr)
    log.warning("the record of %s", name)
    log.info("below the level in force")
    subprocess.run(["echo", "from a program"], check=True)
    kitaru.log(cost={"tokens": 3})
    kitaru.log(cost={"cents": 1})
    kitaru.check()
    where = kitaru.current()
    return {
        "exec_id": where.exec_id,
        "flow": where.flow_name,
        "checkpoint": where.checkpoint,
        "attempt": where.attempt,
        "key": where.idempotency_key,
        "cancelled": where.cancelled,
        "same": kitaru.current_execution_id() == where.exec_id,
        "uuid": str(kitaru.uuid4()),
        "now": kitaru.now(),
    }


class Odd(Exception):
    def __init__(self, *, why: str) -> None:
        super().__init__(why)
        self.why = why


@own(retries=Retry(max_attempts=3, initial_seconds=0, retry_on=(Odd,)))
def third_time() -> int:
    attempt = kitaru.current().attempt
    print("try", attempt)
    if attempt < 3:
        raise Odd(why=f"attempt {attempt}")
    return attempt


@own()
def fails() -> None:
    raise Odd(why="it must")


@own(timeout=3600.0)
def hangs(pids: str) -> None:
    sleeper = subprocess.Popen(["sleep", "1000"])
    Path(pids).write_text(f"{os.getpid()} {sleeper.pid}")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)


@own()
async def slow_async(pids: str) -> None:
    Path(pids).write_text(str(os.getpid()))
    await asyncio.sleep(1000)


@own(resources={"memory": "256MiB"})
def takes(count: int) -> int:
    return len(bytearray(count))


@own()
def ends_by(how: str) -> None:
    if how == "exit code":
        os._exit(3)
    if how == "segfault":
        import ctypes

        ctypes.string_at(0)
    if how == "SystemExit":
        raise SystemExit(4)
    os.kill(os.getpid(), getattr(signal, how))


@own()
def leaves_behind(pids: str) -> str:
    sleeper = subprocess.Popen(["sleep", "1000"])
    Path(pids).write_text(str(sleeper.pid))
    return "done"


@own()
def ends_badly_after() -> str:
    import atexit

    atexit.register(os.abort)
    return "it was done before"


@own()
def calls_another() -> Any:
    return echo(1)


@own()
def runs_a_flow() -> Any:
    return nothing.run()


@own()
def makes_a_client() -> Any:
    return kitaru.KitaruClient()


@own()
def reveals(secret: kitaru.Secret) -> None:
    print("the token is", secret.get())


@own()
def unstorable() -> Any:
    return threading.Lock()


@own()
def waits_until_told(begun: str) -> str:
    Path(begun).write_text(str(os.getpid()))
    while not (kitaru.current().parking or kitaru.current().cancelled):
        time.sleep(0.01)
    return "finished all the same"


@own()
def asks_whether_to_end(begun: str) -> None:
    Path(begun).write_text(str(os.getpid()))
    while True:
        time.sleep(0.01)
        kitaru.check()


@own()
def sleeps_behind_its_guard(begun: str) -> None:
    Path(begun).write_text(f"{os.getppid()} {os.getpid()}")
    time.sleep(1000)


@own()
def sleeps(begun: str) -> None:
    Path(begun).write_text(str(os.getpid()))
    time.sleep(1000)


@flow
def nothing() -> None:
    pass


def _noted(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any) -> Any:
        return fn(*args)

    return wrapper


by_lambda = own()(lambda x: x + 1)


@_noted
@own()
def wrapped(x: int) -> int:
    return x + 2


class Tool:
    @own()
    @staticmethod
    def at(x: int) -> int:
        return x + 3
