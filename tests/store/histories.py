"""Histories: many processes over one PostgreSQL store, with pauses and kills, and what they did.

The database itself notes, with each outcome that it accepts, which epoch stood there at that
moment and who had it: a trigger of the tests. What processes were told goes to files of theirs,
so that a kill loses nothing of it. :func:`faults` says what is wrong with all that. More than
the test does: ``python -m tests.store.histories --processes 20 --outcomes 20000``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, LiteralString, NamedTuple

import psycopg
from tests.postgres import database, serving

from kitaru._core.lifecycle import State
from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import (
    NO_FACTS,
    Cancel,
    Claim,
    Delete,
    ExecutionRow,
    Finish,
    Park,
    Record,
    Refused,
    RegisterOwner,
    Release,
    TryAgain,
)
from kitaru.env import SystemEnv
from kitaru.errors import KitaruBackendError

from .worlds import call_row, facts, json_payload, start_write

FLOW = "demo.agent"
THREADS = 3
HANG_SECONDS = 600
MIN_KILLS, MIN_TAKEOVERS = 3, 5

NOTICING = """
create table history (
    id bigint generated always as identity primary key,
    execution bigint, call bigint, said jsonb, epoch bigint, owner bigint);
create function note_call() returns trigger language plpgsql as $$ begin
    insert into history (execution, call, said, epoch, owner)
    select new.execution, new.id, new.arguments::jsonb, e.epoch, e.owner
    from kitaru.executions as e where e.id = new.execution;
    return new;
end $$;
create trigger note_call after insert on kitaru.calls for each row execute function note_call();
create function epochs_grow() returns trigger language plpgsql as $$ begin
    if new.epoch < old.epoch then raise exception 'epoch % after %', new.epoch, old.epoch; end if;
    return new;
end $$;
create trigger epochs_grow before update on kitaru.executions
    for each row execute function epochs_grow();
"""


class Accepted(NamedTuple):
    """An outcome that the database took: who wrote it under which epoch, and who had it then."""

    execution: int
    writer: int
    epoch: int
    stood_epoch: int
    stood_owner: int | None


class Told(NamedTuple):
    """What a process was told: ``claimed``, or ``recorded`` with the identity."""

    what: str
    execution: int
    owner: int
    epoch: int
    identity: str = ""


def faults(
    accepted: Iterable[Accepted], told: Iterable[Told], calls: set[tuple[int, str]]
) -> list[str]:
    """What must not be, in words; ``accepted`` in the order in which it was."""
    found = []
    newest: dict[int, int] = defaultdict(int)
    writers: dict[tuple[int, int], set[int]] = defaultdict(set)
    for one in accepted:
        if (one.epoch, one.writer) != (one.stood_epoch, one.stood_owner):
            found.append(f"a stale write was accepted: {one}")
        if one.epoch < newest[one.execution]:
            found.append(f"an epoch came back: {one} after {newest[one.execution]}")
        newest[one.execution] = max(newest[one.execution], one.epoch)
        writers[one.execution, one.epoch].add(one.writer)
    claimers: dict[tuple[int, int], set[int]] = defaultdict(set)
    for each in told:
        if each.what == "claimed":
            claimers[each.execution, each.epoch].add(each.owner)
        elif (each.execution, each.identity) not in calls:
            found.append(f"what was acknowledged is not there: {each}")
    for what, numbers in (("writers", writers), ("claimers", claimers)):
        found += [f"two {what} of one epoch: {at}" for at, who in numbers.items() if len(who) > 1]
    return found


# --- one process --------------------------------------------------------------------------------


class Process:
    """Claims, records, lets go, takes over, without a thought for the others."""

    def __init__(self, url: str, log: str, seed: int) -> None:
        self.store = PostgresStore.open(url, env=SystemEnv(), project="demo")
        self.log = open(log, "ab", buffering=0)  # noqa: SIM115 - until the process ends
        self.seed = seed
        self.register()

    def register(self) -> None:
        name = f"lock-{os.urandom(8).hex()}"
        self.owner: int = self.store.apply(RegisterOwner(name, os.getpid(), "here", now())).id

    def note(self, told: Told) -> None:
        self.log.write(json.dumps(told).encode() + b"\n")

    def run(self, thread: int) -> None:
        # Threads share the store, so that their writes are committed in groups.
        choice = random.Random(self.seed * THREADS + thread)
        pause = threading.Event()
        while True:
            pause.wait(choice.random() * 0.01)
            try:
                self.step(choice, pause)
            except Refused:
                self.see_to_being_alive()

    def see_to_being_alive(self) -> None:
        if self.store.get_owner(self.owner).died_at is not None:
            self.register()

    def step(self, choice: random.Random, pause: threading.Event) -> None:
        rows = self.store.list_unfinished(project="demo", flow_ids=[FLOW], limit=30)
        if len(rows) < 12:
            self.store.apply(start_write(f"e-{os.urandom(8).hex()}", None, at=now()))
            return
        row = choice.choice(rows)
        if row.status is State.CANCELLING:
            self.release(row)  # its body has stopped, or its process has left it
        elif choice.random() < 0.03:
            self.store.apply(Cancel(row.id, row.epoch, "a test", "enough", now()))
        elif row.owner is None:
            self.live(self.claim(row, None), choice, pause)
        elif row.owner != self.owner and choice.random() < 0.1:
            # Alive perhaps, and about to write: it is declared dead with this.
            self.live(self.claim(row, row.owner), choice, pause)

    def claim(self, row: ExecutionRow, dead: int | None) -> ExecutionRow:
        claimed: ExecutionRow = self.store.apply(Claim(row.id, row.epoch, self.owner, dead, now()))
        assert claimed.owner is not None
        self.note(Told("claimed", claimed.id, claimed.owner, claimed.epoch))
        return claimed

    def live(self, row: ExecutionRow, choice: random.Random, pause: threading.Event) -> None:
        assert row.owner is not None
        for _ in range(choice.randint(1, 6)):
            identity = os.urandom(16)
            who = json.dumps({"owner": row.owner, "epoch": row.epoch})
            call = call_row(identity, arguments=who, payload=json_payload("1"))
            self.store.apply(Record(row.id, row.epoch, facts(call)))
            self.note(Told("recorded", row.id, row.owner, row.epoch, identity.hex()))
            pause.wait(choice.random() * 0.02)
        choice.choice(self.ends())(row)

    def ends(self) -> list[Callable[[ExecutionRow], Any]]:
        return [self.finish, self.release, self.park, self.try_again, self.have_child, leave]

    def finish(self, row: ExecutionRow) -> None:
        end = Finish(row.id, row.epoch, json_payload("1"), None, (), None, NO_FACTS, now())
        self.store.apply(end)
        if row.parent_exec_id is None and row.id % 3 == 0:
            self.store.apply(Delete(row.id, row.epoch, now()))

    def release(self, row: ExecutionRow) -> None:
        self.store.apply(Release(row.id, row.epoch, NO_FACTS, now()))

    def park(self, row: ExecutionRow) -> None:
        self.store.apply(Park(row.id, row.epoch, (), (), 1, "sleeps", None, NO_FACTS, now()))

    def try_again(self, row: ExecutionRow) -> None:
        failure = json_payload('{"type":"ValueError"}')
        self.store.apply(TryAgain(row.id, row.epoch, failure, (), NO_FACTS, now()))

    def have_child(self, row: ExecutionRow) -> None:
        child = f"c-{os.urandom(8).hex()}"
        start = start_write(child, None, parent_exec_id=row.exec_id, parent_call=os.urandom(8))
        self.store.apply(start._replace(parent_epoch=row.epoch, at=now()))
        self.store.apply(
            Park(row.id, row.epoch, (), (child,), None, "waits", None, NO_FACTS, now())
        )


def leave(row: ExecutionRow) -> None:
    """As if it hung: somebody takes it over."""


def now() -> int:
    return time.time_ns() // 1000


def be_a_process(url: str, log: str, seed: int) -> None:
    process = Process(url, log, seed)

    def run(thread: int) -> None:
        try:
            process.run(thread)
        except BaseException as error:
            text = traceback.format_exc() if not isinstance(error, KitaruBackendError) else error
            process.log.write(json.dumps({"error": f"{error!r}: {text}"}).encode() + b"\n")
            os._exit(3)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# --- all of them -------------------------------------------------------------------------------


class Outcome(NamedTuple):
    faults: list[str]
    errors: list[str]
    accepted: int
    claims: int
    kills: int
    takeovers: int


def play(url: str, folder: Path, *, processes: int, outcomes: int, seed: int) -> Outcome:
    """Until so many outcomes were accepted, with a kill whenever some more are."""
    PostgresStore.open(url, env=SystemEnv(), project="demo").close()
    choice = random.Random(seed)
    running: list[subprocess.Popen[bytes]] = []
    started = kills = 0

    def begin() -> None:
        nonlocal started
        started += 1
        command = [sys.executable, "-m", "tests.store.histories", "--be", url]
        options = ["--log", str(folder / f"{started}.log"), "--seed", str(seed + started)]
        running.append(subprocess.Popen(command + options))

    with psycopg.connect(url, autocommit=True) as looker:
        looker.execute(NOTICING)
        for _ in range(processes):
            begin()
        try:
            until = time.monotonic() + HANG_SECONDS
            every = max(1, outcomes // (processes + 3))
            while not _is_enough(looker, outcomes, kills):
                count = _count(looker, "history")
                assert time.monotonic() < until, f"only {count} outcomes in {HANG_SECONDS} s"
                if any(each.poll() is not None for each in running):
                    break  # one found an error: it stands in its log
                if count >= (kills + 1) * every:
                    kills += 1
                    victim = running.pop(choice.randrange(len(running)))
                    victim.send_signal(signal.SIGKILL)
                    victim.wait()
                    begin()
                threading.Event().wait(0.05)
        finally:
            for each in running:
                each.kill()
                each.wait()
        return _judge(looker, folder, kills)


def _is_enough(connection: psycopg.Connection[Any], outcomes: int, kills: int) -> bool:
    """Enough happened for it to prove something, however slow the machine is."""
    if kills < MIN_KILLS or _count(connection, "history") < outcomes:
        return False
    return _count(connection, "kitaru.owners where died_at is not null") >= MIN_TAKEOVERS


def _count(connection: psycopg.Connection[Any], what: LiteralString) -> int:
    found = connection.execute("select count(*) from " + what).fetchone()
    assert found is not None
    return int(found[0])


def _judge(connection: psycopg.Connection[Any], folder: Path, kills: int) -> Outcome:
    rows = connection.execute(
        "select execution, (said->>'owner')::bigint, (said->>'epoch')::bigint, epoch, owner"
        " from history order by call"
    ).fetchall()
    accepted = [Accepted(*row) for row in rows]
    calls = {
        (execution, identity.hex())
        for execution, identity in connection.execute(
            "select execution, identity from kitaru.calls"
        ).fetchall()
    }
    told, errors = [], []
    for log in sorted(folder.glob("*.log")):
        for line in log.read_bytes().split(b"\n")[:-1]:
            said = json.loads(line)
            if isinstance(said, dict):
                errors.append(said["error"])
            else:
                told.append(Told(*said))
    claims = sum(each.what == "claimed" for each in told)
    dead = _count(connection, "kitaru.owners where died_at is not null")
    return Outcome(faults(accepted, told, calls), errors, len(accepted), claims, kills, dead)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--be")
    options.add_argument("--log", default="")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--processes", type=int, default=10)
    options.add_argument("--outcomes", type=int, default=2_000)
    said = options.parse_args()
    if said.be:
        be_a_process(said.be, said.log, said.seed)
        return
    with serving() as server, database(server) as url, tempfile.TemporaryDirectory() as folder:
        outcome = play(
            url, Path(folder), processes=said.processes, outcomes=said.outcomes, seed=said.seed
        )
    print(outcome)
    sys.exit(bool(outcome.faults or outcome.errors))


if __name__ == "__main__":
    main()
