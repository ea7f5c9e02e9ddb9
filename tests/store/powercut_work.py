"""The program whose power is cut: it fills a store and says what it was promised.

``python -m store.powercut_work STAGES``: a list of stages of jobs (JSON). The jobs
of a stage run side by side, a stage begins when the one before has ended. Each job is a
process that prints an ``ACK`` line, in one ``write``, for all that has been
acknowledged to it, and never before.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from typing import Any

import apsw

from kitaru._core.payload import Payload, seal
from kitaru._store import blobs, location
from kitaru._store.protocol import CallRow, Facts, Finish, Record, RegisterOwner
from kitaru._store.sqlite import database, migrate
from kitaru._store.sqlite.store import SqliteStore

from .worlds import StillEnv, call_row, start_write

PROJECT = "demo"


def main(argument: str) -> int:
    for stage in json.loads(argument):
        jobs = [
            subprocess.Popen([sys.executable, "-m", "store.powercut_work", "job", json.dumps(job)])
            for job in stage
        ]
        for job, process in zip(stage, jobs, strict=True):
            wanted = -signal.SIGKILL if any(name.startswith("killed") for name in job) else 0
            assert process.wait() == wanted, (job, process.returncode)
    return 0


class Work:
    """One job: executions with calls, small and large, recorded alone and in groups."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.seed: int = job["seed"]
        self.die = random.Random(self.seed)
        self.large_first: int = job.get("large_first", 0)
        self.store = self.open(0)

    def open(self, life: int) -> SqliteStore:
        folder: str = self.job["folder"]
        if self.job.get("make_folder"):
            # The wrong kind of file system is not what is tried here.
            place = location.Location(folder, "said", "the test", os.path.dirname(folder))
            location.prepare(place, kind_here=lambda _: None)
        env = StillEnv(self.seed * 1000 + life)
        store = SqliteStore.open(folder, env=env, project=PROJECT)
        name = f"lock-{os.getpid()}-{life}"
        self.owner = store.apply(RegisterOwner(lock_name=name, pid=os.getpid(), host="here", at=1))
        return store

    def run(self) -> None:
        for number in range(self.job["executions"]):
            self.live(f"e-{self.seed}-{number}")
            if number in self.job.get("reopened_after", ()):
                self.store.close()
                self.store = self.open(number + 1)
        if self.job.get("closed", True):
            self.store.close()

    def live(self, exec_id: str) -> None:
        write = start_write(exec_id, self.owner.id, inputs=self.payload(exec_id, "inputs"))
        execution = self.store.apply(write).row.id
        say(exec_id, "started")
        for record in range(self.job["records"]):
            groups = self.die.choice((1, 1, 1, 3))
            for group in range(groups):
                calls = self.calls(exec_id, f"{record}.{group}")
                self.store.post(
                    Record(execution, 1, Facts(calls=calls)), acknowledger(exec_id, calls)
                )
            self.store.flush(wait=True)
        result = self.payload(exec_id, "result")
        self.store.apply(Finish(execution, 1, result, None, (), None, Facts(), 5))
        say(exec_id, "completed", result=result.digest.hex())

    def calls(self, exec_id: str, record: str) -> list[CallRow]:
        count = self.die.choice((1, 1, 2, 3))
        return [
            # `reason` says how many stand or fall together.
            call_row(name.encode(), reason=f"{record} {count}", payload=self.payload(exec_id, name))
            for name in (f"{exec_id}:{record}.{place}" for place in range(count))
        ]

    def payload(self, exec_id: str, name: str) -> Payload:
        size = self.die.choice((0, 10, 200, 1000, 3000))
        self.large_first -= 1
        if self.large_first >= 0 or self.die.random() < self.job.get("large", 0.08):
            size = blobs.INLINE_BYTES + self.die.randint(1, 5000)
        # Half of it does not compress.
        body = self.die.randbytes(size // 4).hex() + "x" * (size // 2)
        return seal("json", json.dumps([exec_id, name, body]).encode())


def acknowledger(exec_id: str, calls: list[CallRow]) -> Any:
    def done(answer: object, error: BaseException | None) -> None:
        if error is not None:
            raise error
        say(exec_id, calls={call.identity.decode(): call.payload.digest.hex() for call in calls})

    return done


def say(exec_id: str, status: str | None = None, **more: Any) -> None:
    line = {"execution": exec_id, "status": status, **more}
    os.write(1, b"ACK " + json.dumps(line).encode() + b"\n")


# --- what a test may ask for, to be sure that the simulator sees something -----------


def set_knobs(job: dict[str, Any]) -> None:
    if job.get("small_log"):
        # Many lives of the log in a short trace, each cut back when it begins anew.
        database.CHECKPOINT_PAGES = 40
        database.LOG_BYTES = 60 * (database.PAGE_BYTES + 24)
        database.WAL_LIMIT_BYTES = job.get("limit_pages", 50) * database.PAGE_BYTES
        database.BEGINS_BEFORE_LOG_GROWS = job.get("grows_after", 2)
    if "synchronous" in job:
        _weaken(job["synchronous"])
    if not job.get("folders_synced", True):
        blobs.__dict__["sync_folder"] = lambda folder: None
    if not job.get("blobs_synced", True):
        # SQLite syncs by itself; of Python's calls only folders remain.
        _sync_folders_only()
    if job.get("killed_in_growth") is not None:
        _die_lengthening(job["killed_in_growth"])
    if "visited_in_growth" in job:
        _be_visited(job["folder"], job["visited_in_growth"])
    if job.get("killed_after_making_a_blob_folder"):
        blobs.__dict__["sync_folder"] = lambda folder: os.kill(os.getpid(), signal.SIGKILL)


def visit(folder: str) -> None:
    """Open the store while its log is being lengthened, read all, and try to checkpoint."""
    store = SqliteStore.open(folder, env=StillEnv(os.getpid()), project=PROJECT)
    assert store.list_owners(), "what was committed before can be read"
    connection = store._database._connection
    connection.set_busy_timeout(0)
    passive: Any = connection.execute("pragma wal_checkpoint(passive)").fetchall()[0]
    busy, log, copied = passive
    assert not busy, "a passive checkpoint waits for no writer"
    assert log == copied > 0, (log, copied)
    # Whoever begins the log anew or cuts it back needs the write lock.
    for mode in ("restart", "truncate"):
        busy, *_ = connection.execute(f"pragma wal_checkpoint({mode})").fetchall()[0]
        assert busy, mode
    store.close()


def _sync_folders_only() -> None:
    sync = os.fsync

    def folders_only(fd: Any) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            sync(fd)

    os.fsync = folders_only


def _be_visited(folder: str, pages: int) -> None:
    """When some of the zeros stand there, another process opens, reads, checkpoints, closes."""
    lengthen = database._lengthen

    def half_way(path: str, size: int) -> None:
        lengthen(path, os.stat(path).st_size + pages * 4120 // 2)
        command = [sys.executable, "-m", "store.powercut_work", "visit", folder]
        subprocess.run(command, check=True)
        lengthen(path, size)

    database._lengthen = half_way


def _weaken(level: int) -> None:
    configure = database.configure

    def weaker(connection: apsw.Connection, path: str, cache_kib: int) -> None:
        configure(connection, path, cache_kib)
        connection.pragma("synchronous", level)

    database.configure = weaker
    migrate.__dict__["configure"] = weaker


def _die_lengthening(zeros: int) -> None:
    """Be killed when ``zeros`` of the zeros have been written, and none synced."""

    def lengthen(path: str, size: int) -> None:
        with open(path, "ab", buffering=0) as file:
            file.write(bytes(zeros))
            os.kill(os.getpid(), signal.SIGKILL)

    database._lengthen = lengthen


if __name__ == "__main__":
    if sys.argv[1] == "visit":
        visit(sys.argv[2])
    elif sys.argv[1] == "job":
        asked = json.loads(sys.argv[2])
        set_knobs(asked)
        Work(asked).run()
    else:
        sys.exit(main(sys.argv[1]))
