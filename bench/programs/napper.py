"""A flow that never ends, for a process that is killed or that adopts.

``BENCH_LIFE=owner`` starts it; ``BENCH_LIFE=heir`` adopts what others left.
The body prints when it began; the heir's returns at once.
"""

import os
import sys
import time

import kitaru
from kitaru import checkpoint, flow

HEIR = os.environ["BENCH_LIFE"] == "heir"


@checkpoint
def nap(number: int) -> str:
    print(number, time.monotonic(), flush=True)
    while not HEIR:
        time.sleep(60)
    return "rested"


@flow
def napper(number: int) -> str:
    return nap(number)


if __name__ == "__main__":
    if HEIR:
        kitaru.recover()
        print("ready", flush=True)
        sys.stdin.read()
    else:
        napper.run(int(os.environ["BENCH_NUMBER"])).wait()
