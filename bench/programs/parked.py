"""Parks as many executions as it is told, and says what that holds: memory, threads, idle CPU."""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time

import kitaru
from kitaru import app, checkpoint, flow

PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


@checkpoint(cache=False)
def draft(number: int) -> str:
    return f"draft {number}"


@flow
def asks(number: int) -> object:
    return [draft(number), kitaru.wait(name="ok", schema=bool, question="Shall we?")]


@flow
async def asks_async(number: int) -> object:
    return [draft(number), await kitaru.wait(name="ok", schema=bool, question="Shall we?")]


def park(count: int) -> None:
    for number in range(count):
        (asks, asks_async)[number % 2].run(number)
    assert app.current().runner.wait_idle(600), "they do not park"


def main() -> None:
    count, idle_seconds = int(sys.argv[1]), float(sys.argv[2])
    after_import = resident_bytes()
    park(2)
    threads = threading.active_count()
    began = time.perf_counter()
    park(count)
    seconds = time.perf_counter() - began
    gc.collect()
    held = resident_bytes() - after_import
    cpu = time.process_time()
    time.sleep(idle_seconds)
    cpu = time.process_time() - cpu
    states = app.current().store.count_executions(project=app.current().project)
    flows = sum("kitaru-flow" in thread.name for thread in threading.enumerate())
    print(
        json.dumps(
            {
                "waiting": states.get("waiting", 0),
                "bytes": held,
                "threads": threading.active_count() - threads,
                "pool_threads": flows,
                "idle_cpu": cpu / idle_seconds,
                "seconds": seconds,
            }
        ),
        flush=True,
    )
    os._exit(0)


if __name__ == "__main__":
    main()
