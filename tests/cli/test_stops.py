"""A signal that tells a command to stop is noticed, whichever thread the kernel gives it to."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import signal, threading
from kitaru.cli.stops import Stops

stops = Stops("ended")
assert not stops.wait(0)

def receive():
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    done.wait()

done = threading.Event()
threading.Timer(0.2, receive).start()
assert stops.wait()
assert stops.first is signal.SIGTERM
assert stops.wait(0)
done.set()
"""


def test_a_signal_that_reaches_another_thread_is_noticed_by_the_one_that_waits() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, "")
