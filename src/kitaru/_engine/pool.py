"""Daemon threads that run jobs, at most so many at once.

Not ``concurrent.futures``: its threads are joined at exit before our own hook
could hand anything back, and it cannot tell a waiting job that a waiter has
taken it (``futures.py``). Threads are kept for reuse; an idle pool costs
sleeping threads and nothing else.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kitaru.notices import notice

_of_thread = threading.local()


class Pool:
    """``submit`` queues a job; up to ``max_threads`` run at once, in order of submission."""

    def __init__(self, name: str, max_threads: int) -> None:
        self.max_threads = max_threads
        self._pid = os.getpid()
        self._name = name
        self._jobs: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition(threading.Lock())
        self._threads = 0
        self._idle = 0
        self._lent = 0
        self._closed = False

    def submit(self, job: Callable[[], None]) -> None:
        with self._wake:
            self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._wake.notify()
            elif self._threads - self._lent < self.max_threads:
                self._grow()

    def lend(self) -> None:
        """The calling pool thread is about to wait for another job: it gives up its slot."""
        with self._wake:
            self._lent += 1
            if self._jobs and self._idle < len(self._jobs):
                self._grow()

    def give_back(self) -> None:
        with self._wake:
            self._lent -= 1

    @contextmanager
    def lent_here(self) -> Iterator[None]:
        """While inside, the calling thread waits: it gives up its slot, if it has one."""
        if not self.is_working_here():
            yield
            return
        self.lend()
        try:
            yield
        finally:
            self.give_back()

    def close(self) -> None:
        """Let the threads go, each once nothing is queued for it."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()

    def _grow(self) -> None:
        self._threads += 1
        thread = threading.Thread(
            target=self._work, name=f"kitaru-{self._name}-{self._threads}", daemon=True
        )
        try:
            thread.start()
        except BaseException:
            self._threads -= 1
            raise

    def is_working_here(self) -> bool:
        """Whether the calling thread is one of this pool's."""
        return getattr(_of_thread, "pool", None) is self

    def work_here(self) -> None:
        """The calling thread stands for one of this pool's, which waits for it."""
        _of_thread.pool = self

    def _work(self) -> None:
        self.work_here()
        while True:
            with self._wake:
                while not self._jobs:
                    if self._closed or self._threads - self._lent > self.max_threads:
                        self._threads -= 1
                        return
                    self._idle += 1
                    try:
                        self._wake.wait()
                    finally:
                        self._idle -= 1
                job = self._jobs.popleft()
            try:
                job()
            except BaseException:
                # A bug of ours: reported, and the thread stays what the pool counts on.
                threading.excepthook(
                    threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread()))
                )
            del job
            end_fork(self._pid)


def end_fork(pid: int) -> None:
    """End this process if it is a fork, made by user code, of the one with this id."""
    if os.getpid() != pid:
        notice(
            "a child that a checkpoint or flow had forked came back from it: it ends "
            "here, because only the parent owns the execution. End such a child with "
            "os._exit(), or use multiprocessing with spawn"
        )
        os._exit(1)
