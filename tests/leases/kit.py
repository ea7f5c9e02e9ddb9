"""Processes of a fleet on PostgreSQL, and an auditor in the database that no writer can fool."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import psycopg

LEASE_SECONDS = 2
POLL_SECONDS = 0.2
HANG_SECONDS = 120.0
"""What must happen has happened long before: a bound, never a pace."""

ROOT = Path(__file__).parents[2]

AUDIT = """
create table audit (
    id bigint generated always as identity primary key,
    exec_id text, epoch bigint, owner bigint, value bytea);
create function audited() returns trigger language plpgsql as $$ begin
    insert into public.audit (exec_id, epoch, owner, value)
    select exec_id, epoch, owner, new.data from kitaru.executions where id = new.execution;
    return new;
end $$;
create trigger audited after insert on kitaru.calls for each row execute function audited();
"""


class Entry(NamedTuple):
    """An outcome as it was accepted: what the row said then, and what its writer did."""

    exec_id: str
    epoch: int
    owner: int
    pid: int
    written_epoch: int


class Member:
    def __init__(
        self,
        name: str,
        url: str,
        folder: Path,
        *words: str,
        through: Sequence[str] = (),
        program: Sequence[str] = ("tests.leases.program",),
    ) -> None:
        self.name = name
        environment = {key: text for key, text in os.environ.items() if key[:7] != "KITARU_"}
        environment |= {
            "KITARU_STORE": url,
            "KITARU_PROJECT": "demo",
            "KITARU_LEASE_SECONDS": str(LEASE_SECONDS),
            "KITARU_POLL_SECONDS": str(POLL_SECONDS),
            "PYTHONPATH": str(ROOT),
            "FLEET_FOLDER": str(folder),
        }
        self._said = folder / f"{name}.err"
        with open(self._said, "w") as errors:
            self.process = subprocess.Popen(
                [*through, sys.executable, "-m", *program, name, *words],
                stdout=subprocess.PIPE,
                stderr=errors,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
                env=environment,
                text=True,
            )

    def begin(self) -> Member:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "begun\n", self.said()
        return self

    def said(self) -> str:
        return self._said.read_text(errors="replace")

    def ended(self) -> int:
        try:
            return self.process.wait(HANG_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGUSR1)  # says where each of its threads stands
            threading.Event().wait(2)
            raise AssertionError(f"{self.name} does not end: {self.said()}") from None

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    @property
    def pid(self) -> int:
        return self.process.pid


class Fleet:
    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.members: list[Member] = []
        self.connection = psycopg.connect(url, autocommit=True)
        self.connection.execute(AUDIT)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.connection.close()
        for member in self.members:
            if member.process.poll() is None:
                member.process.kill()
                member.process.wait(HANG_SECONDS)
            assert member.process.stdout is not None
            member.process.stdout.close()

    def join(self, name: str, *words: str, **options: Any) -> Member:
        member = Member(name, options.pop("url", self.url), self.folder, *words, **options)
        self.members.append(member)
        return member

    def ask(self, sql: str, *values: Any) -> list[Any]:
        return self.connection.execute(sql, values).fetchall()

    def pids_that_own(self) -> dict[str, int]:
        """Key of a running execution -> the process that owns it."""
        return dict(
            self.ask(
                "select e.key, o.pid from kitaru.executions as e"
                " join kitaru.owners as o on o.id = e.owner where e.status = 'running'"
            )
        )

    def runs_just(self, keys: set[str]) -> Callable[[], bool]:
        return lambda: self.pids_that_own().keys() == keys

    def runs_none_of(self, keys: set[str]) -> Callable[[], bool]:
        return lambda: not keys & self.pids_that_own().keys()

    def owned_by_none_of(self, members: Sequence[Member]) -> Callable[[], bool]:
        pids = {member.pid for member in members}
        return lambda: not pids & set(self.pids_that_own().values())

    def have_all_got_on(self) -> bool:
        """Whether each running execution has recorded something under its present epoch."""
        return not self.ask(
            "select 1 from kitaru.executions as e where e.status = 'running' and not exists ("
            " select 1 from public.audit as a where a.exec_id = e.exec_id and a.epoch = e.epoch)"
        )

    def end(self) -> None:
        """Have everybody come to an end."""
        (self.folder / "stop").touch()
        for member in self.members:
            assert member.ended() == 0, member.said()

    def audit(self) -> list[Entry]:
        return [
            Entry(exec_id, epoch, owner, *json.loads(value))
            for exec_id, epoch, owner, value in self.ask(
                "select exec_id, epoch, owner, value from public.audit order by id"
            )
        ]


def until(what: Callable[[], bool], *, seconds: float = HANG_SECONDS) -> None:
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if what():
            return
        pause.wait(0.02)
    raise AssertionError("it did not come to pass")


def check(entries: Sequence[Entry]) -> None:
    """No stale write was accepted, epochs only grew, and each had one writer."""
    newest: dict[str, int] = {}
    writers: dict[tuple[str, int], tuple[int, int]] = {}
    for entry in entries:
        assert entry.written_epoch == entry.epoch, f"stale: {entry}"
        assert entry.epoch >= newest.get(entry.exec_id, 0), f"an epoch went back: {entry}"
        newest[entry.exec_id] = entry.epoch
        writer = (entry.pid, entry.owner)
        assert writers.setdefault((entry.exec_id, entry.epoch), writer) == writer, entry
