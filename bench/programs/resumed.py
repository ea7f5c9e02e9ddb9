"""1,000 checkpoints and a kill in the next; started again, it goes on there.

Every body leaves its number in a journal outside the store. The first life
kills itself; the second prints when its first body began.
"""

import os
import signal
import sys
import time

from kitaru import checkpoint, flow

TEXT = ("The quick brown fox jumps over the lazy dog, and records it. " * 17)[:1024]
LAST = int(os.environ["BENCH_STEPS"])
JOURNAL = os.open(os.environ["BENCH_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


@checkpoint
def step(number: int) -> dict[str, str]:
    os.write(JOURNAL, b"%d\n" % number)
    if number == LAST:
        if os.environ["BENCH_LIFE"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        print(time.monotonic(), flush=True)
    return {"model": "bench-1", "text": TEXT}


@flow
def steps() -> int:
    for number in range(1, LAST + 1):
        step(number)
    return LAST


if __name__ == "__main__":
    sys.exit(steps.options(key="resumed").run().wait() != LAST)
