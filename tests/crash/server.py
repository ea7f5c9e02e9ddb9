"""A clean process with one thread that has imported everything, and forks a child per life.

Talks in lines of JSON on stdin and stdout. It never opens a store itself: what
a child opens, kills and leaves behind is the child's alone.
"""

from __future__ import annotations

import contextlib
import faulthandler
import hashlib
import importlib
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any

STUCK_SECONDS = 120.0
"""A life that takes longer than this is stuck: its stacks are written down, and it is ended."""


class CrashingEnv:
    """The real environment, except that this process is killed at its ``crash_at``-th point."""

    def __init__(
        self, crash_at: int | None, crash_named: str | None, tell: int, look_at: str | None = None
    ) -> None:
        from kitaru.env import SystemEnv

        real = SystemEnv()
        self.now, self.monotonic, self.new_id = real.now, real.monotonic, real.new_id
        self.random_bytes, self.jitter = real.random_bytes, real.jitter
        self.points: list[str] = []
        self.left: list[str] = []
        """What would be left by who dies there, in the folder that is looked at, for each point."""
        self._look_at = look_at
        self._crash_at = crash_at
        self._crash_named = crash_named
        self._tell = tell
        self._lock = threading.Lock()

    def passed(self) -> dict[str, list[str]]:
        """The points so far, and what each would leave; no thread is between the two."""
        with self._lock:
            return {"points": list(self.points), "left": list(self.left)}

    def crash_point(self, name: str) -> None:
        with self._lock:
            self.points.append(name)
            if self._look_at is not None:
                self.left.append(_digest(self._look_at))
            if len(self.points) == self._crash_at or name == self._crash_named:
                os.write(self._tell, json.dumps({"died_at": name}).encode())
                os.kill(os.getpid(), signal.SIGKILL)


def _digest(folder: str) -> str:
    """Of all files there, but for the memory that SQLite's processes share: it is made anew from
    the others once all of them are dead."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*")):
        if path.name.endswith("-shm"):
            continue
        with contextlib.suppress(IsADirectoryError, FileNotFoundError):  # gone since it was listed
            data = path.read_bytes()
            digest.update(f"{path} {len(data)} ".encode() + data)
    return digest.hexdigest()


def live(order: dict[str, Any], tell: int) -> None:
    """Be one life: play the scenario, killed at the ordered point; tell how it ended."""
    from kitaru import app

    from .corpus import SCENARIOS
    from .journal import Life, begin

    if "also" in order:  # scenarios that are not of every store
        importlib.import_module(order["also"]).enter()
    os.environ.update(order["settings"])
    scenario = SCENARIOS[order["scenario"]]
    env = CrashingEnv(order.get("crash_at"), order.get("crash_named"), tell, order.get("look_at"))
    app.use_env(env)
    begin(Life(order["life"], order["seed"], order["variant"], order["journal"]))
    told: dict[str, Any]
    try:
        result = scenario.play() if order["life"] else _prelude(scenario)
        told = {"result": json.loads(json.dumps(result, default=str))}
    except Exception as error:
        told = {"error": type(error).__name__, "message": str(error)}
        traceback.print_exc()
    if order["life"] == 0:
        app.current().store.close()
    told |= env.passed()
    os.write(tell, json.dumps(told).encode())


def _prelude(scenario: Any) -> Any:
    """What happens before the first life: a store is made, and perhaps somebody uses it."""
    from kitaru import app

    app.current()
    return scenario.prelude() if scenario.prelude else None


def inspect(place: str) -> dict[str, Any]:
    """What is committed in a store, by reading a copy: the store itself stays as it died."""
    from kitaru._store.sqlite.store import SqliteStore
    from kitaru.env import SystemEnv

    if not os.path.exists(os.path.join(place, "kitaru.db")):
        return {"executions": [], "owners": []}
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "store")
        os.mkdir(copy)
        for name in ("kitaru.db", "kitaru.db-wal"):
            if os.path.exists(os.path.join(place, name)):
                shutil.copyfile(os.path.join(place, name), os.path.join(copy, name))
        if os.path.isdir(os.path.join(place, "blobs")):
            os.symlink(os.path.join(place, "blobs"), os.path.join(copy, "blobs"))
        store = SqliteStore.open(copy, env=SystemEnv(), project=None)
        try:
            return {"executions": executions(store, store.project), "owners": owners(store)}
        finally:
            store.close()


def executions(store: Any, project: str) -> list[dict[str, Any]]:
    found = []
    for row in reversed(store.list_executions(project=project, limit=100)):
        calls = store.list_calls(row.id, limit=10_000)
        found.append(
            {
                "exec_id": row.exec_id,
                "flow": row.flow_name,
                "key": row.key,
                "original": row.original_exec_id,
                "parent": row.parent_exec_id,
                "parent_call": None if row.parent_call is None else row.parent_call.hex(),
                "status": row.status.value,
                "reason": row.status_reason,
                "epoch": row.epoch,
                "owner": row.owner,
                "deaths": row.deaths,
                "attempt": row.attempt,
                "metadata": json.loads(row.metadata),
                "learnt": [fact.value for fact in store.load_learnt(row.id)],
                "notes": [[note.kind, note.message] for note in store.list_notes(row.id)],
                "calls": [_call(call) for call in calls],
            }
        )
    return found


def _call(call: Any) -> dict[str, Any]:
    row = call.row
    return {
        "identity": row.identity.hex(),
        "attempt": row.attempt,
        "state": row.state.value,
        "source": row.source.value,
        "reopened": call.reopened,
        "checkpoint": row.checkpoint,
        "seq": row.seq,
        "retry_at": row.retry_at,
        "mark": json.loads(row.metadata or "{}").get("mark"),
        "value": row.payload.data[:200].decode("utf-8", "replace"),
    }


def owners(store: Any) -> list[int]:
    return [owner.id for owner in store.list_owners()]


def _fork(order: dict[str, Any]) -> dict[str, Any]:
    hear, tell = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(hear)
            log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdin.close()
            faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True, file=2)
            live(order, tell)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(tell)
    said = b""
    if (
        "kill_after_seconds" in order
        and not select.select([hear], [], [], order["kill_after_seconds"])[0]
    ):
        os.kill(child, signal.SIGKILL)
    while piece := os.read(hear, 1 << 20):
        said += piece
    os.close(hear)
    _, status = os.waitpid(child, 0)
    # A thread that dies at its point does not stop the others at once: what counts is said first.
    told = json.JSONDecoder().raw_decode(said.decode())[0] if said else {}
    return {"status": os.waitstatus_to_exitcode(status), **told}


def serve() -> None:
    import pkgutil
    from importlib import import_module

    import kitaru
    from kitaru import app, client  # noqa: F401
    from kitaru._store.sqlite import store  # noqa: F401

    from . import corpus  # noqa: F401

    # Imported once, before the forks, and not in every life.
    for package in (
        kitaru,
        *map(import_module, ("kitaru._core", "kitaru._engine", "kitaru._store")),
        import_module("kitaru._store.postgres"),
    ):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if module.name not in ("kitaru.__main__", "kitaru.cli"):
                import_module(module.name)
    import_module("kitaru._core.values")
    assert threading.active_count() == 1, "a fork of a process with threads is not clean"
    assert kitaru.current_execution_id() is None
    for line in sys.stdin:
        # One line at a time: a child inherits no half-read buffer that matters to it.
        answer = _fork(json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
