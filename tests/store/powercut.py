"""Cut the power of a program at work, on paper: ``python -m tests.store.powercut``.

strace writes down what the program asks of the disk. Replayed up to any point, the
model in ``disk.py`` makes the states in which a power cut there may leave the
folder. Each is then opened by the store, and must hold all that had been
acknowledged, no damage, no half transaction and no row whose blob is missing.

A SIGKILL cannot show this: the kernel keeps what a dead process wrote. An fsync
that is missing is only missed when the power goes.
"""

from __future__ import annotations

import argparse
import bisect
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from kitaru._core.lifecycle import State
from kitaru._core.payload import is_intact
from kitaru._store.protocol import Record
from kitaru._store.sqlite.store import SqliteStore
from kitaru.errors import KitaruError

from .disk import Disk, File, Folder, SetLength, Write
from .worlds import StillEnv, call_row, facts, new_owner, started

TESTS = str(Path(__file__).resolve().parents[1])
Job = dict[str, Any]
Stages = list[list[Job]]

PER_ROUND = 2_000  # Images of one set of traces; then others are made.
ROWS = 100_000  # More than any workload here records.

# --- from system calls to events ------------------------------------------------------

MODELLED = (
    "openat close write pwrite64 lseek fsync fdatasync ftruncate "
    "rename renameat renameat2 link linkat unlink unlinkat mkdir mkdirat"
)
# Not seen in any run; should one appear, the model has to learn it first.
UNMODELLED = (
    "open creat writev pwritev pwritev2 truncate fallocate rmdir symlink symlinkat "
    "copy_file_range sendfile sync_file_range sync syncfs"
)
# A question mark: not every machine has every call.
CALLS = "trace=" + ",".join(f"?{name}" for name in f"{MODELLED} {UNMODELLED}".split())
STRACE = ["strace", "-f", "-y", "-xx", "-s", "8000000", "--seccomp-bpf", "-e", CALLS]


def why_not() -> str | None:
    """Why system calls cannot be traced here; None: they can."""
    if sys.platform != "linux" or shutil.which("strace") is None:
        return "there is no strace here (Debian: the package `strace`)"
    command = [*STRACE, "-o", os.devnull, sys.executable, "-c", ""]
    tried = subprocess.run(command, capture_output=True, timeout=100, check=False)
    return None if tried.returncode == 0 else f"strace may not trace: {tried.stderr.decode()}"


class Event(NamedTuple):
    at: int
    """Its place in the order of the trace: a sync's where it ended, else where it began."""
    began: int
    call: str
    arguments: str
    answer: str
    process: str


_LINE = re.compile(r"(\d+) +(?:(\w+)\((.*)\) += (-?\d+)(.*)|(\w+)\((.*?) *<unfinished \.\.\.>)$")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)\) += (-?\d+)(.*)$")
_SYNCS = ("fsync", "fdatasync")


def read_trace(path: str) -> list[Event]:
    """The calls that succeeded, in order."""
    events: list[Event] = []
    open_calls: dict[str, tuple[int, str, str]] = {}
    with open(path, encoding="ascii") as lines:
        for number, line in enumerate(lines):
            if found := _LINE.match(line):
                process, call, arguments, status, rest, begun, first = found.groups()
                if begun is not None:
                    open_calls[process] = (number, begun, first)
                    continue
                began = number
            elif found := _RESUMED.match(line):
                process, second, status, rest = found.groups()
                began, call, first = open_calls.pop(process)
                arguments = first + second
            else:
                continue  # Signals and ends of processes.
            if int(status) >= 0:
                at = number if call in _SYNCS else began
                events.append(Event(at, began, call, arguments, status + rest, process))
    return sorted(events)


def _text(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


def _path(escaped: str) -> str:
    return os.fsdecode(_text(escaped))


_HANDLE = re.compile(r"(-?\d+|AT_FDCWD)<([^>]*)>")
_STRING = re.compile(r'"([^"]*)"')


class Replay:
    """Performs a trace on a disk, event by event, and collects what was acknowledged."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.promised = Promised()
        self.counts: Counter[str] = Counter()
        # (process, descriptor) -> where the next plain write goes; None: at the end.
        self._offsets: dict[tuple[str, str], int | None] = {}

    def perform(self, event: Event) -> None:
        step: Callable[[Event], None] | None = getattr(self, f"_{event.call}", None)
        if step is None:
            assert self.disk.root not in _decoded(event), f"not modelled: {event}"
        else:
            step(event)

    def _is_ours(self, path: str) -> bool:
        return path.startswith(self.disk.root + os.sep) or path == self.disk.root

    def _handle(self, event: Event) -> tuple[str, str] | None:
        found = _HANDLE.match(event.arguments)
        if found is None or not self._is_ours(path := _path(found[2])):
            return None
        assert self.disk.find(path) is not None, f"{event.call} on a file that is gone: {path}"
        return found[1], path

    def _count(self, what: str, path: str) -> None:
        name = os.path.basename(path)
        kind = next((end for end in ("-wal", "-shm", ".db", ".tmp") if name.endswith(end)), "other")
        self.counts[f"{what} {kind}"] += 1

    def _openat(self, event: Event) -> None:
        found = _HANDLE.match(event.answer)
        if found is None or not self._is_ours(path := _path(found[2])):
            return
        flags = event.arguments
        if "O_CREAT" in flags and self.disk.find(path) is None:
            self.disk.add(event.began, path, File())
        if "O_TRUNC" in flags and self.disk.file(path).length:
            self.disk.file(path).set_length(SetLength(event.began, 0))
        self._offsets[event.process, found[1]] = None if "O_APPEND" in flags else 0

    def _close(self, event: Event) -> None:
        if found := _HANDLE.match(event.arguments):
            self._offsets.pop((event.process, found[1]), None)

    def _lseek(self, event: Event) -> None:
        if (handle := self._handle(event)) and self._offsets[event.process, handle[0]] is not None:
            self._offsets[event.process, handle[0]] = int(event.answer.split()[0])

    def _write(self, event: Event) -> None:
        data = _data(event)
        if event.arguments.startswith("1<") and data.startswith(b"ACK "):
            self.promised.add(json.loads(data[4:]))
        elif handle := self._handle(event):
            file = self.disk.file(handle[1])
            key = event.process, handle[0]
            offset = self._offsets[key]
            at = file.length if offset is None else offset
            if offset is not None:
                self._offsets[key] = at + len(data)
            file.write(Write(event.began, at, data))
            self._count("write", handle[1])
            # SQLite itself writes with an offset.
            self.counts["log lengthened"] += handle[1].endswith("-wal")

    def _pwrite64(self, event: Event) -> None:
        if handle := self._handle(event):
            offset = int(event.arguments.rsplit(", ", 1)[1])
            self.disk.file(handle[1]).write(Write(event.began, offset, _data(event)))
            self._count("write", handle[1])
            if handle[1].endswith("-wal") and offset == 0:
                self.counts["log begun"] += 1

    def _ftruncate(self, event: Event) -> None:
        if handle := self._handle(event):
            file, length = self.disk.file(handle[1]), int(event.arguments.rsplit(", ", 1)[1])
            self._count("cut" if length < file.length else "lengthen", handle[1])
            file.set_length(SetLength(event.began, length))

    def _fsync(self, event: Event) -> None:
        if handle := self._handle(event):
            node = self.disk.find(handle[1])
            assert node is not None
            node.sync(event.began)
            self._count("sync", handle[1])
            self.counts["sync folder"] += isinstance(node, Folder)

    _fdatasync = _fsync

    def _paths(self, event: Event) -> list[str]:
        paths = [_path(text) for text in _STRING.findall(event.arguments)]
        return [path for path in paths if self._is_ours(path)]

    def _mkdir(self, event: Event) -> None:
        for path in self._paths(event):
            self.disk.add(event.began, path, Folder())

    _mkdirat = _mkdir

    def _unlink(self, event: Event) -> None:
        assert "AT_REMOVEDIR" not in event.arguments
        for path in self._paths(event):
            self.disk.remove(event.began, path)
            self._count("unlink", path)

    _unlinkat = _unlink

    def _rename(self, event: Event) -> None:
        if paths := self._paths(event):
            self.disk.rename(event.began, *paths)
            self._count("rename", paths[0])

    _renameat = _renameat2 = _rename

    def _link(self, event: Event) -> None:
        if paths := self._paths(event):
            old, new = paths
            self.disk.add(event.began, new, self.disk.file(old))
            self.counts["link"] += 1

    _linkat = _link


def _data(event: Event) -> bytes:
    found = _STRING.search(event.arguments)
    assert found is not None, event
    assert '"...' not in event.arguments[found.end() - 1 :], "strace cut the data short"
    return _text(found[1])[: int(event.answer.split()[0])]


def _decoded(event: Event) -> str:
    strings = _STRING.findall(event.arguments) + re.findall(r"<([^>]*)>", event.arguments)
    return "\n".join(map(_path, strings))


def trace(stages: Stages, where: Path) -> list[Event]:
    """Let the jobs work below ``where``, under strace; what they did, in order."""
    path = str(where / "trace")
    command = [*STRACE, "-e", "signal=none", "-o", path]
    command += [sys.executable, "-m", "store.powercut_work", json.dumps(stages)]
    environment = {**os.environ, "PYTHONPATH": TESTS, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=100, check=False)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    events = read_trace(path)
    os.unlink(path)
    return events


# --- what was promised, and whether it was kept ---------------------------------------


@dataclass
class Promised:
    """All that has been acknowledged, as the acknowledgements say it."""

    executions: dict[str, str] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)
    calls: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, line: dict[str, Any]) -> None:
        name = line["execution"]
        if line["status"] is not None:
            self.executions[name] = line["status"]
        if "result" in line:
            self.results[name] = line["result"]
        for identity, digest in line.get("calls", {}).items():
            self.calls[name, identity] = digest


LOST, DAMAGED = "lost", "damaged"


def examine(folder: str, promised: Promised, *, use: bool = False) -> Counter[str]:
    """Open an image of a store; what is wrong with it. ``use``: then write to it, too."""
    wrong: Counter[str] = Counter()
    try:
        store = SqliteStore.open(folder, env=StillEnv(77), project="demo")
    except KitaruError:
        return Counter({DAMAGED: 1})
    try:
        if store._database.rows("pragma integrity_check", ()) != [("ok",)]:
            wrong[DAMAGED] += 1
        _compare(store, promised, wrong)
        if use:
            _write_and_read(store, wrong)
    except KitaruError:
        wrong[DAMAGED] += 1
    finally:
        store.close()
    return wrong


def _compare(store: SqliteStore, promised: Promised, wrong: Counter[str]) -> None:
    executions = {row.exec_id: row for row in store.list_executions(project="demo", limit=ROWS)}
    for name, status in promised.executions.items():
        found = executions.get(name)
        wrong[LOST] += found is None or (status == "completed" != found.status)
    calls: dict[tuple[str, str], str] = {}
    for name, execution in executions.items():
        for part in (execution.inputs, execution.result):
            wrong["dangling"] += part is not None and not is_intact(part)
        if execution.status is State.COMPLETED and name in promised.results:
            assert execution.result is not None
            wrong[LOST] += execution.result.digest.hex() != promised.results[name]
        together: Counter[str] = Counter()
        for recorded in store.list_calls(execution.id, limit=ROWS):
            payload, identity = recorded.row.payload, recorded.row.identity.decode()
            calls[name, identity] = payload.digest.hex()
            together[recorded.row.reason] += 1
            # A damaged payload comes marked, its bytes gone; a blob that is not there, too.
            if not is_intact(payload) or identity.encode() not in payload.data:
                wrong["dangling"] += 1
        wrong["half a transaction"] += any(
            count != int(reason.split()[1]) for reason, count in together.items()
        )
    wrong[LOST] += sum(calls.get(key) != digest for key, digest in promised.calls.items())


def _write_and_read(store: SqliteStore, wrong: Counter[str]) -> None:
    execution = started(store, new_owner(store, "after").id, "e-after").row.id
    store.apply(Record(execution, 1, facts(call_row(b"after"))))
    wrong["unusable"] += [c.row.identity for c in store.list_calls(execution, limit=9)] != [
        b"after"
    ]


# --- the cuts -------------------------------------------------------------------------


@dataclass
class Report:
    images: int = 0
    """Images that were opened."""
    unsynced: int = 0
    """Of these, the ones that could differ from what the program saw."""
    bad: Counter[str] = field(default_factory=Counter)
    """What was wrong, each counted by images."""
    first: str = ""
    """The first bad image: how to make it again."""
    counts: Counter[str] = field(default_factory=Counter)
    promises: int = 0

    def __str__(self) -> str:
        bad = ", ".join(f"{what} in {count}" for what, count in sorted(self.bad.items()))
        counts = ", ".join(f"{what} {count}" for what, count in sorted(self.counts.items()))
        return (
            f"{self.images} images ({self.unsynced} with unsynced writes), {self.promises} calls "
            f"acknowledged: {bad or 'nothing lost, nothing damaged'} {self.first}\n  {counts}"
        )


def cut(
    events: list[Event],
    disk: Disk,
    where: Path,
    *,
    images: int,
    seed: int,
    store: str,
    promised: Promised | None = None,
    each: Callable[[str, Promised], Counter[str]] | None = None,
) -> Report:
    """Cut the power ``images`` times, and examine what is left of the store at ``store``."""
    replay, report = Replay(disk), Report()
    if promised is not None:
        replay.promised = promised
    into = str(where / "image")
    inside = os.path.join(into, os.path.relpath(store, disk.root))
    done = 0
    for number, at in enumerate(sorted(_cuts(events, images, random.Random(seed)))):
        for event in events[done:at]:
            replay.perform(event)
        done = at
        # A seed of its own: a bad image can be made again without the others.
        disk.write_image(into, random.Random(f"{seed}.{number}"))
        if each is not None:
            wrong = each(inside, replay.promised)
        else:
            os.makedirs(inside, exist_ok=True)  # Lost with all that was in it.
            wrong = examine(inside, replay.promised, use=number % 8 == 0)
        report.images += 1
        report.unsynced += disk.unsynced() > 0
        for what in +wrong:
            report.bad[what] += 1
        if +wrong and not report.first:
            report.first = f"(first: image {number} at event {at} of {len(events)}, seed {seed})"
        shutil.rmtree(into)
    for event in events[done:]:
        replay.perform(event)
    report.counts, report.promises = replay.counts, len(replay.promised.calls)
    return report


def _cuts(events: list[Event], images: int, die: random.Random) -> Iterator[int]:
    """Where to cut: anywhere on the disk's business, but half of them where it is delicate."""
    business = [i for i, event in enumerate(events) if event.call not in ("close", "lseek")]
    first = next(i for i, event in enumerate(events) if event.call == "pwrite64")
    business = business[bisect.bisect_left(business, first) :]
    # Zeros appended to the log, names that change, cuts of files, the checkpoint's
    # writes to the database itself (whole pages at whole pages).
    delicate = [
        i
        for i in business
        if events[i].call in ("rename", "link", "unlink", "ftruncate", "mkdir")
        or (events[i].call == "write" and len(events[i].arguments) > 100_000)
        or (events[i].call == "pwrite64" and ", 4096, " in events[i].arguments[-40:])
    ]
    for _ in range(images):
        if delicate and die.random() < 0.5:
            yield min(len(events), die.choice(delicate) + die.randint(0, 12))
        else:
            yield die.choice(business) + 1


# --- the scenarios --------------------------------------------------------------------


def scenarios(folder: str) -> dict[str, Stages]:
    """What the program does while its power is cut."""
    small: Job = {"folder": folder, "small_log": True, "executions": 9, "records": 3}
    return {
        "one process, the log as it is": [
            [{"folder": folder, "seed": 1, "executions": 45, "records": 6}]
        ],
        "the log begins anew and is cut back": [
            [{**small, "seed": 2, "limit_pages": 30, "reopened_after": [1, 2, 5]}]
        ],
        "two processes at once": [
            [{**small, "seed": 3, "reopened_after": [3]}, {**small, "seed": 4, "closed": False}],
            [{**small, "seed": 5, "executions": 3}],
        ],
        "visited while lengthening the log": [
            [{**small, "seed": 10, "visited_in_growth": 9}],
        ],
        # Not a whole number of frames, nor of sectors: no frame boundary is spared.
        "killed in the middle of lengthening the log": [
            [{**small, "seed": 6, "killed_in_growth": 70_001}],
            [{**small, "seed": 7, "killed_in_growth": 90_000}],
            [{**small, "seed": 8}, {**small, "seed": 9, "executions": 3}],
        ],
    }


def run(
    name: str, where: Path, *, images: int, seed: int, variant: int = 0, **knobs: Any
) -> Report:
    """Trace a scenario anew and cut its power. ``variant``: with other values."""
    root = where / "disk"
    store = str(root / "store")
    os.makedirs(store)
    stages = [
        [{**job, "seed": job["seed"] + 100 * variant, **knobs} for job in stage]
        for stage in scenarios(store)[name]
    ]
    disk = Disk.of_folder(str(root))
    report = cut(trace(stages, where), disk, where, images=images, seed=seed, store=store)
    shutil.rmtree(root)
    return report


def scratch() -> str | None:
    """Where images are written: in memory if there is such a place, for they are many."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=None, help="default: a random one, printed")
    parser.add_argument("--synchronous", type=int, default=None, help="1: NORMAL, which loses")
    asked = parser.parse_args()
    if reason := why_not():
        print(f"nothing was tried: {reason}")
        return 2
    seed = random.SystemRandom().randrange(1 << 31) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    knobs = {} if asked.synchronous is None else {"synchronous": asked.synchronous}
    total: Counter[str] = Counter()
    names = list(scenarios(""))
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        for variant, rest in enumerate(range(asked.images, 0, -PER_ROUND)):
            for name in names:
                images = -(-min(rest, PER_ROUND) // len(names))
                report = run(name, Path(folder), images=images, seed=seed, variant=variant, **knobs)
                total.update({"images": report.images, **report.bad})
                if report.bad or variant == 0:
                    print(f"{name}, variant {variant}: {report}", flush=True)
    print(", ".join(f"{what} {count}" for what, count in total.items()))
    return 1 if len(total) > 1 else 0


if __name__ == "__main__":
    sys.exit(main())
