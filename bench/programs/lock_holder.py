"""Holds an OS lock until it is killed: the limit of seeing a death."""

import fcntl
import os
import sys
import time

file = os.open(os.environ["BENCH_LOCK"], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
while True:
    time.sleep(60)
    sys.stdout.flush()
