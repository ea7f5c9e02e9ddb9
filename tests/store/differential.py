"""A seeded stream of random operations to the model and to the databases.

Answers and refusals are compared after every step, whole snapshots after every one or every
few. Run more than the test does with
``python -m tests.store.differential --steps N --seed S [--postgres]``.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from tests.postgres import database, give_time, serving

from kitaru._core.lifecycle import FINISHED, CallSource, State, WaitKind, WaitState
from kitaru._store import commit
from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import (
    Answer,
    ArtifactRow,
    Beat,
    Bundle,
    Cancel,
    Claim,
    ClaimNext,
    CodeRow,
    DeclareDead,
    Delete,
    Draining,
    DropBlobs,
    Enlist,
    ExecutionRow,
    Expire,
    Facts,
    Finish,
    Forget,
    GiveUp,
    Import,
    IntentRow,
    KeptCall,
    LearntRow,
    MemoryRow,
    NoteRow,
    Park,
    Reap,
    Record,
    Refused,
    RegisterOwner,
    Release,
    Remember,
    Retry,
    SetLimits,
    Signs,
    SourceRow,
    Sweep,
    TryAgain,
    WaitRow,
    Wake,
    Write,
)
from kitaru._store.reference import ReferenceStore
from kitaru._store.sqlite.store import SqliteStore

from .schedule_kit import random_write
from .worlds import (
    AnyStore,
    StillEnv,
    call_row,
    failed_call,
    json_payload,
    start_write,
)

STEPS_A_WORLD = 60
OPERATIONS = "operations in all"

LABELS = ["ok", "wait_condition:0"]
SCOPES = [("namespace", "team"), ("flow", "demo.agent")]

# The model has no files: tests/store/test_housekeeping.py is about those.
WRITES = tuple(write.__name__ for write in commit.WRITES if write is not DropBlobs)
REFUSALS = ("Fenced", "NotInState", "NoRoom", "AlreadyRecorded", "Missing")

IDENTITIES = [bytes([k]) * 16 for k in range(6)]
REUSE_KEYS = [b"r" * 32, b"s" * 32]
CHECKPOINTS = ["demo.research", "demo.write"]
FLOWS = ["demo.agent", "demo.other"]
QUEUES = ["default", "gpu"]
LIMIT_KEYS = ["tenant", "openai", "gpu"]
PROJECTS = ["demo", "elsewhere"]


KINDS = {
    "owner": 4,
    "dead": 2,
    "beat": 6,
    "reap": 3,
    "start": 12,
    "claim": 18,
    "claim_next": 16,
    "limits": 5,
    "enlist": 4,
    "draining": 2,
    "record": 34,
    "finish": 8,
    "again": 7,
    "release": 6,
    "retry": 7,
    "give_up": 5,
    "park": 14,
    "wake": 8,
    "answer": 10,
    "expire": 6,
    "cancel": 5,
    "memory": 4,
    "forget": 1,
    "delete": 5,
    "sweep": 4,
    "import": 3,
    "schedule": 9,
}
"""Kind of write -> its weight."""


class World:
    """One model and one or more databases, fed alike."""

    def __init__(self, seed: int, stores: Sequence[AnyStore], *, look_every: int = 1) -> None:
        self.random = random.Random(seed)
        self.model = ReferenceStore(project="demo", env=StillEnv(seed))
        self.stores = stores
        self.look_every = look_every
        self.env = StillEnv(seed)
        self.seen: Counter[str] = Counter()
        self.trace: list[str] = []
        self.at = 1_000
        self.gone: list[str] = []
        self.operations = 0
        """Writes, and reads, that all were asked alike."""
        for number in range(4):
            for store in (self.model, *self.stores):
                store.apply(RegisterOwner(f"first-{number}", 1, "here", 1))

    def step(self) -> None:
        self.at += self.random.randrange(3)
        choice = self.random.random()
        if choice < 0.1:
            self._write_group()
        else:
            self._write_one()
        if self.random.randrange(self.look_every) == 0:
            self.look()

    def look(self) -> None:
        counting: Any = Counting(self.model)
        expected = self._snapshot(counting)
        self.operations += counting.count
        for store in self.stores:
            self._compare("snapshot", expected, self._snapshot(store))
        self._check_slots()

    def _check_slots(self) -> None:
        """Slots are held by what is owned, all of it that is under a limit, and by nothing else."""
        for project in PROJECTS:
            limits = {limit.name for limit in self.model.list_limits(project=project)}
            owned = self.model.list_executions(
                project=project, statuses=(State.RUNNING, State.CANCELLING), limit=1000
            )
            under = {(name, row.exec_id) for row in owned for name in (row.queue, row.limit_key)}
            held = [(name, exec_id) for name, _, exec_id in self.model.list_slots(project=project)]
            assert sorted(held) == sorted(pair for pair in under if pair[0] in limits)

    # --- operations ---

    def _write_one(self) -> None:
        write = self._random_write()
        self.trace.append(repr(write))
        expected = self._try(self.model, write)
        for store in self.stores:
            self._compare(repr(write), expected, self._try(store, write))
        self._count(write, expected)

    def _write_group(self) -> None:
        """Several at once: the refused ones must not touch their neighbours."""
        writes = [self._random_write() for _ in range(self.random.randint(2, 5))]
        self.trace.append(f"group of {writes}")
        answers = []
        for store in (self.model, *self.stores):
            got: list[Any] = []
            for write in writes:
                store.post(write, _collector(got))
            assert store.flush(wait=True) is True
            answers.append(got)
        for answer in answers[1:]:
            self._compare(f"group of {writes}", answers[0], answer)
        for write, answer in zip(writes, answers[0], strict=True):
            self._count(write, answer)

    def _try(self, store: AnyStore, write: Write) -> Any:
        try:
            return _plain(store.apply(write), None)
        except Refused as refusal:
            return _plain(None, refusal)

    def _count(self, write: Write, answer: Any) -> None:
        self.operations += 1
        kind = type(write).__name__
        if isinstance(write, Delete) and isinstance(answer, list):
            self.gone += answer
        refused = isinstance(answer, tuple) and len(answer) == 2 and answer[0] in REFUSALS
        self.seen[f"{kind}: {answer[0]}" if refused else kind] += 1
        if refused:
            self.seen[answer[0]] += 1

    # --- random writes: mostly right, sometimes wrong ---

    def _rows(self) -> list[ExecutionRow]:
        return [
            row
            for project in PROJECTS
            for row in self.model.list_executions(project=project, limit=1000)
        ]

    def _random_write(self) -> Write:
        rows = self._rows()
        kind = self.random.choices(list(KINDS), list(KINDS.values()))[0]
        if kind == "owner":
            name = f"lock-{self.random.randrange(12)}"
            lease_seconds = self.random.choice([None, None, self._lease_seconds()])
            pid = self.random.randrange(99)
            return RegisterOwner(name, pid, "here", self.at, lease_seconds)
        if kind == "dead":
            return DeclareDead(self._owner(), self.at, itself=self.random.random() < 0.3)
        if kind == "beat":
            return Beat(self._leased(), self._lease_seconds(), self.at)
        if kind == "reap":
            patience_seconds = self.random.randrange(5) / 1e6
            return Reap(patience_seconds, self.random.choice([1, 2, 9]), self.at)
        if kind == "schedule":
            exec_id = self.env.new_id()
            return random_write(self.random, self.model, exec_id, self._owner(), self.at)
        if kind in ("claim_next", "limits", "enlist", "draining"):
            return self._about_queues(kind)
        if kind == "memory":
            return Remember(self.random.choice(PROJECTS), self._memory(None))
        if kind == "sweep":
            left = self.model.list_unswept(limit=9)
            exec_id = self.random.choice(left) if left else "nobody"
            return Sweep(exec_id, self.random.choice([1, 3, 1000]))
        if kind == "forget":
            key = self.random.choice(["a", "b", None])
            return Forget("demo", *self.random.choice(SCOPES), key)
        if kind == "start" or not rows:
            return self._start(rows)
        return self._about(kind, rows)

    def _about_queues(self, kind: str) -> Write:
        project = self.random.choices(PROJECTS, [5, 1])[0]
        flows = self.random.sample(FLOWS, self.random.choice([1, 2]))
        queues = self.random.choice([[], [], QUEUES[:1], QUEUES[::-1]])
        owner = self._owner()
        match kind:
            case "claim_next":
                limit = self.random.choice([1, 2, 3, 10])
                alone = self.random.random() < 0.4
                return ClaimNext(project, flows, queues, owner, limit, self.at, alone)
            case "limits":
                names = self.random.sample([*LIMIT_KEYS, "default"], 2)
                return SetLimits(
                    project, {name: self.random.choice([None, 0, 1, 2, 3]) for name in names}
                )
            case "enlist":
                return Enlist(owner, project, "w", flows, queues, self.at % 7, self.at)
            case _:
                return Draining(owner, self.at)

    def _about(self, kind: str, rows: list[ExecutionRow]) -> Write:
        wanted = {
            "claim": (State.PENDING, State.RUNNING),
            "record": (State.RUNNING, State.CANCELLING),
            "finish": (State.RUNNING, State.CANCELLING),
            "again": (State.RUNNING,),
            "release": (State.RUNNING, State.CANCELLING),
            "retry": (State.FAILED,),
            "give_up": (State.PENDING, State.WAITING, State.RUNNING),
            "park": (State.RUNNING, State.CANCELLING),
            "wake": (State.WAITING,),
            "answer": (State.WAITING, State.RUNNING),
            "expire": (State.WAITING, State.RUNNING),
            "delete": tuple(FINISHED),
            "import": tuple(FINISHED),
            "cancel": (State.PENDING, State.WAITING, State.RUNNING, State.CANCELLING),
        }[kind]
        fitting = [row for row in rows if row.status in wanted]
        if kind in ("answer", "expire"):
            asking = {wait.exec_id for wait in self.model.list_open_waits(project="demo", limit=99)}
            fitting = [row for row in fitting if row.exec_id in asking] or fitting
        if not fitting and self.random.random() < 0.8:
            return self._start(rows)
        row = self.random.choice(fitting if fitting and self.random.random() < 0.85 else rows)
        execution = 999 if self.random.random() < 0.03 else row.id
        epoch = row.epoch + (self.random.choice([-1, 1]) if self.random.random() < 0.1 else 0)
        failure = json_payload(f'{{"at":{self.at}}}')
        owner = row.owner if self.random.random() < 0.9 else self._owner()
        match kind:
            case "claim":
                return Claim(execution, epoch, self._owner(), owner, self.at)
            case "record":
                return Record(execution, epoch, self._facts())
            case "finish" if self.random.random() < 0.5:
                result = json_payload(str(self.at))
                return Finish(execution, epoch, result, None, (), None, self._facts(), self.at)
            case "finish":
                return Finish(
                    execution,
                    epoch,
                    None,
                    failure,
                    self._some_identities(),
                    "because",
                    self._facts(),
                    self.at,
                )
            case "again":
                return TryAgain(
                    execution, epoch, failure, self._some_identities(), self._facts(), self.at
                )
            case "release":
                return Release(execution, epoch, self._facts(), self.at)
            case "retry":
                return Retry(execution, epoch, self.at, self.at + 1_000)
            case "park":
                return self._park(execution, epoch)
            case "wake":
                return Wake(execution, epoch, self.at)
            case "answer":
                answer = json_payload("8" * self._size())
                return Answer(execution, self._wait_of(execution), answer, "ada", self.at)
            case "expire":
                return Expire(execution, self._wait_of(execution), self.at)
            case "import":
                return self._import(row)
            case "delete":
                return Delete(execution, epoch, self.at)
            case "cancel":
                wait = self._wait_of(execution) if self.random.random() < 0.3 else None
                return Cancel(execution, epoch, "ada", "no use", self.at, wait)
            case _:
                return GiveUp(execution, epoch, owner, failure, "poison", self.at)

    def _import(self, row: ExecutionRow) -> Write:
        """What stands there once more, mostly under another id."""
        exec_id = row.exec_id if self.random.random() < 0.2 else self.env.new_id()
        key = row.key if self.random.random() < 0.2 else None
        new = row._replace(exec_id=exec_id, key=key, owner=None, home=None, due_at=None)
        if new.status not in FINISHED:
            new = new._replace(status=State.CANCELLED)
        calls = [
            KeptCall(
                call.row._replace(reused_from=None),
                call.reopened,
                call.reused_from or self.random.choice([None, f"nobody:{IDENTITIES[0].hex()}"]),
            )
            for call in self.model.list_calls(row.id, limit=1000)
        ]
        kin = (None, None) if self.random.random() < 0.9 else ("nobody", self.random.randbytes(9))
        new = new._replace(parent_exec_id=kin[0], parent_call=kin[1])
        bundle = Bundle(
            new,
            calls,
            self.model.list_attempts(row.id),
            self.model.load_learnt(row.id),
            self.model.list_notes(row.id),
            [
                wait._replace(state=WaitState.ABORTED) if wait.state is WaitState.OPEN else wait
                for wait in self.model.list_waits(row.id)
            ],
            self.model.list_intents(row.id),
            [artifact for of, artifact in self.model._artifacts.values() if of == row.id],
            [CodeRow("demo.imported", b"c" * 32, "{}")],
        )
        if bundle.failed_attempt() is None:
            bundle = bundle._replace(row=new._replace(failure=None))
        return Import([bundle])

    def _park(self, execution: int, epoch: int) -> Write:
        rows = self._rows()
        soon = self.at + self.random.randrange(-2, 9)
        return Park(
            execution,
            epoch,
            waits=self._some_identities(),
            children=[
                row.exec_id for row in rows if row.parent_exec_id and self.random.random() < 0.2
            ]
            + ["nobody"][: self.random.random() < 0.05],
            due_at=self.random.choice([None, None, soon]),
            reason="wait",
            home=self._owner(),
            facts=self._facts(),
            at=self.at,
        )

    def _wait_of(self, execution: int) -> bytes:
        """The identity of a wait of the execution, if it has one, and mostly an open one."""
        waits = self.model.list_waits(execution)
        waits = [wait for wait in waits if wait.state is WaitState.OPEN] or waits
        if waits and self.random.random() < 0.9:
            return self.random.choice(waits).row.identity
        return self.random.choice(IDENTITIES)

    def _size(self) -> int:
        return 40_000 if self.random.random() < 0.02 else self.random.randrange(60)

    def _owner(self) -> int:
        return self.random.randint(1, 6)

    def _lease_seconds(self) -> float:
        """Not much more than what passes in a few steps."""
        return self.random.randrange(2, 12) / 1e6

    def _leased(self) -> int:
        """Mostly one that has a lease: a heartbeat gives one to whoever has none."""
        leased = [owner.id for owner in self.model.list_owners() if owner.lease_until is not None]
        return (
            self.random.choice(leased) if leased and self.random.random() < 0.9 else self._owner()
        )

    def _start(self, rows: list[ExecutionRow]) -> Write:
        exec_id = self.env.new_id()
        if rows and self.random.random() < 0.05:
            exec_id = self.random.choice(rows).exec_id
        owner = self._owner() if self.random.random() < 0.7 else None
        key = f"k{self.random.randrange(4)}" if self.random.random() < 0.3 else None
        flow = self.random.choice(FLOWS)
        return start_write(
            exec_id,
            owner,
            project=self.random.choices(PROJECTS, [5, 1])[0],
            flow_id=flow,
            flow_name=flow.split(".")[1],
            key=key,
            at=self.at,
            deadline_at=self.at + 9 if self.random.random() < 0.2 else None,
            keep_seconds=self.random.choice([None, 60]),
            queue=self.random.choices(QUEUES, [2, 1])[0],
            priority=self.random.choices([0, 5, -5], [5, 2, 1])[0],
            limit_key=self.random.choice([None, None, *LIMIT_KEYS]),
            due_at=self.random.choice([None, None, None, self.at + self.random.randrange(30)]),
            home=owner if self.random.random() < 0.5 else None,
            **self._kinship(rows),
        )

    def _kinship(self, rows: list[ExecutionRow]) -> dict[str, Any]:
        parents = [row for row in rows if row.status is State.RUNNING] or rows
        if not parents or self.random.random() < 0.6:
            return {}
        parent = self.random.choice(parents if self.random.random() < 0.9 else rows)
        epoch = parent.epoch + (self.random.random() < 0.1)
        if self.random.random() < 0.1:
            return {"original_exec_id": parent.exec_id}
        return {
            "parent_exec_id": parent.exec_id if self.random.random() < 0.97 else "nobody",
            "parent_call": self.random.choice([*IDENTITIES, None]),
            "parent_epoch": epoch if self.random.random() < 0.9 else None,
        }

    def _some_identities(self) -> tuple[bytes, ...]:
        return tuple(self.random.sample(IDENTITIES, self.random.randrange(3)))

    def _facts(self) -> Facts:
        if self.random.random() < 0.2:
            return Facts()
        number = self.random.randrange(100)
        return Facts(
            calls=[self._call() for _ in range(self.random.choices([0, 1, 2], [1, 6, 2])[0])],
            learnt=[
                LearntRow(bytes([number]) * 16, "now", str(self.at))
                for _ in range(self.random.choices([0, 1, 2], [30, 5, 1])[0])
            ],
            codes=[
                CodeRow(
                    self.random.choice(CHECKPOINTS),
                    bytes([number % 3]) * 32,
                    '{"f":"00"}',
                    self.random.choice([None, f'{{"demo":"{number:02x}"}}']),
                    f"[{number}]",
                    [SourceRow(bytes([number % 5]), b"text %d" % number)][: number % 2],
                )
                for _ in range(self.random.choices([0, 1], [3, 1])[0])
            ],
            notes=[
                NoteRow("drift", f"note {number}", self.at)
                for _ in range(self.random.choices([0, 1], [4, 1])[0])
            ],
            metadata=f'{{"n":{number}}}' if self.random.random() < 0.2 else None,
            **self._other_facts(),
        )

    def _other_facts(self) -> dict[str, Any]:
        def some(make: Callable[[], Any], *weights: int) -> list[Any]:
            return [make() for _ in range(self.random.choices(range(len(weights)), weights)[0])]

        return {
            "waits": some(self._wait, 5, 3, 1),
            "intents": some(self._intent, 8, 1, 1),
            "artifacts": some(self._artifact, 12, 1, 1),
            "memories": some(
                lambda: self._memory(bytes([self.random.randrange(256)]) * 16), 12, 1, 1
            ),
        }

    def _wait(self) -> WaitRow:
        soon = self.at + self.random.randrange(9)
        return WaitRow(
            identity=self.random.choice(IDENTITIES),
            kind=self.random.choice(list(WaitKind)),
            label=self.random.choice(LABELS),
            name=self.random.choice([None, "ok"]),
            question=self.random.choice([None, "Go on?"]),
            schema=self.random.choice([None, "{}"]),
            metadata=self.random.choice([None, '{"a":1}']),
            branch=self.random.choice(["", "b/1"]),
            call=self.random.choice([None, b"call"]),
            opened_at=self.at,
            expires_at=self.random.choice([None, soon]),
            default=self.random.choice([None, json_payload("9" * self._size())]),
        )

    def _intent(self) -> IntentRow:
        row = self._call()
        return IntentRow(
            row.identity,
            row.attempt,
            *row[4:9],
            None,
            *row[10:16],
            at=self.at,
        )

    def _artifact(self) -> ArtifactRow:
        name = self.random.choice(["draft", "final"])
        payload = json_payload("6" * self._size())
        call = self.random.choice(IDENTITIES)
        return ArtifactRow(call, self.random.randint(1, 2), name, "output", "[]", self.at, payload)

    def _memory(self, identity: bytes | None) -> MemoryRow:
        payload = None if self.random.random() < 0.2 else json_payload("5" * self._size())
        key = self.random.choice(["a", "b"])
        return MemoryRow(*self.random.choice(SCOPES), key, identity, self.at, payload)

    def _call(self) -> Any:
        identity = self.random.choice(IDENTITIES)
        checkpoint = self.random.choice(CHECKPOINTS)
        attempt = self.random.choices([1, 2, 3], [5, 3, 1])[0]
        place = self.random.randrange(4)
        if self.random.random() < 0.4:
            retry_at = self.at + 5 if self.random.random() < 0.5 else None
            return failed_call(
                identity, attempt=attempt, checkpoint=checkpoint, retry_at=retry_at, place=place
            )
        reuse_key = self.random.choice([*REUSE_KEYS, None])
        reused = self.random.random() < 0.2
        return call_row(
            identity,
            attempt=attempt,
            checkpoint=checkpoint,
            place=place,
            parent=self.random.choice([None, b"parent"]),
            reuse_key=None if reused else reuse_key,
            source=CallSource.REUSED if reused else CallSource.RAN,
            reused_from=self.random.randint(1, 20) if reused else None,
            ended_at=self.at,
            payload=json_payload("7" * self._size()),
        )

    # --- snapshots ---

    def _snapshot(self, store: AnyStore) -> dict[str, Any]:
        shot: dict[str, Any] = {
            "owners": store.list_owners(),
            "unswept": store.list_unswept(limit=1000),
            "expired": store.list_expired(at=self.at + 60_000_000, limit=1000),
            "some expired": store.list_expired(
                at=self.at + 60_000_000, after=(self.at + 59_999_990, 5), limit=2
            ),
            "counted": store.count_recorded(since=5),
        }
        for project in PROJECTS:
            rows = store.list_executions(project=project, limit=1000)
            shot[project] = rows
            shot[f"{project} counts"] = store.count_executions(project=project)
            shot[f"{project} unfinished"] = store.list_unfinished(
                project=project, flow_ids=FLOWS, limit=1000
            )
            for row in rows:
                calls = store.list_calls(row.id, limit=1000)
                shot[row.exec_id] = (
                    calls,
                    store.load_outcomes(row.id),
                    store.load_learnt(row.id),
                    store.list_attempts(row.id),
                    store.list_notes(row.id),
                    store.list_waits(row.id),
                    store.list_intents(row.id),
                    store.list_artifacts(row.id, limit=1000),
                    store.list_lent_artifacts(row.id, limit=1000),
                    store.list_children(row.exec_id, limit=1000),
                )
            shot[f"{project} open waits"] = store.list_open_waits(project=project, limit=1000)
            shot[f"{project} queues"] = (
                store.list_limits(project=project),
                store.list_slots(project=project),
                store.list_workers(project=project),
                store.list_queues(project=project, at=self.at),
                store.count_owned(project=project),
                store.list_interrupted(project=project, flow_ids=FLOWS, limit=1000),
                self._signs(store, 1, FLOWS, [], project=project),
            )
            shot[f"{project} due"] = store.list_due(project=project, at=self.at, limit=1000)
            shot[f"{project} schedules"] = store.list_schedules(project=project, limit=1000)
            shot[f"{project} next due"] = store.next_due(project=project)
            shot[f"{project} scopes"] = store.list_scopes(project=project, limit=9)
            for scope_type, scope in SCOPES:
                place = {"project": project, "scope_type": scope_type, "scope": scope}
                shot[f"{place}"] = (
                    store.list_memories(**place, limit=9),
                    store.list_versions(**place, key="a", limit=1000),
                )
        shot["now and then"] = self._occasional(store)
        return shot

    def _occasional(self, store: AnyStore) -> Any:
        """Reads that need not be made of everything at each step."""
        turn = len(self.trace)
        execution = turn % 12 + 1
        checkpoint = CHECKPOINTS[turn % 2]
        try:
            owner: Any = store.get_owner(turn % 7 + 1)
            status: Any = store.get_status(execution)
        except LookupError as error:
            owner, status = type(error), None
        return [
            owner,
            status,
            store.search_executions(str(turn % 10) * 2, project="demo", limit=3),
            store.list_executions(
                project="demo",
                flow=["agent", "demo.other", None][turn % 3],
                statuses=[(), (State.RUNNING, State.FAILED)][turn % 2],
                before=turn % 9 or None,
                limit=4,
            ),
            store.list_unfinished(project="demo", flow_ids=FLOWS[:1], limit=2),
            store.list_unfinished(
                project="demo", flow_ids=FLOWS, limit=9, but_of=[2, turn % 6 + 1]
            ),
            store.load_payloads(execution, [turn % 5, turn % 5 + 1, 40 - turn % 7]),
            store.load_seconds(execution, [turn % 5, turn % 5 + 1, 40 - turn % 7]),
            store.list_places(execution),
            store.sample_arguments(execution, checkpoint=checkpoint, limit=2),
            store.find_checkpoint(execution, IDENTITIES[turn % 6]),
            store.list_codes(project="demo", checkpoint=checkpoint, limit=2),
            store.list_samples(execution, checkpoint=checkpoint, before=turn % 20, limit=2),
            [store.load_source(bytes([number])) for number in range(5)],
            [
                store.find_reusable(key, execution=execution, before=turn % 20 or None, since=since)
                for key in REUSE_KEYS
                for since in (None, self.at - 10)
            ],
            store.list_calls(execution, after=turn % 6, limit=2),
            store.list_past(execution, upto=turn % 40),
            *self._occasional_control(store, turn, execution),
        ]

    def _signs(
        self,
        store: AnyStore,
        owner: int,
        flows: list[str],
        queues: list[str],
        project: str = "demo",
    ) -> Signs:
        """All but the number of changes, which each store counts as it likes."""
        signs = store.signs(owner, project=project, flow_ids=flows, queues=queues, at=self.at)
        return signs._replace(changes=0)

    def _occasional_control(self, store: AnyStore, turn: int, execution: int) -> list[Any]:
        owner = turn % 6 + 1
        parents = [row.exec_id for row in self._rows() if row.id == turn % 9]
        memory = {"project": "demo", "scope_type": "namespace", "scope": "team", "key": "b"}
        return [
            store.list_interrupted(project="demo", flow_ids=FLOWS[1:], limit=2),
            self._signs(store, owner, FLOWS[turn % 2 :], QUEUES[turn % 3 :]),
            store.list_owned(owner, statuses=[(State.RUNNING,), (State.CANCELLING,)][turn % 2]),
            store.list_owned(owner, statuses=(State.RUNNING, State.CANCELLING)),
            store.list_served(owner, project="demo", limit=3),
            [store.find_child(parent, IDENTITIES[turn % 6]) for parent in parents],
            store.find_wait(execution, IDENTITIES[turn % 6]),
            store.list_open_waits(project="demo", limit=2),
            store.list_due(project="demo", at=self.at - 3, limit=1),
            store.list_due(project="demo", at=self.at, limit=2, but_of=[owner, 99]),
            store.list_artifacts(execution, name="draft", limit=2),
            store.list_lent_artifacts(execution, name="draft", limit=2),
            store.find_artifact(turn % 9),
            [store.find_tombstone(exec_id) for exec_id in self.gone[-3:]],
            [store.find_memory(**memory, version=version) for version in (None, 1, turn % 9)],
            store.list_memories(
                project="demo", scope_type="namespace", scope="team", limit=turn % 3
            ),
            store.list_scopes(project="demo", limit=1),
        ]

    def _compare(self, what: str, expected: Any, got: Any) -> None:
        if expected != got:
            raise AssertionError(
                f"the store differs from the model at {what[:2000]}\n"
                f"{_difference(expected, got)}\nlast steps:\n" + "\n".join(self.trace[-8:])
            )

    def close(self) -> None:
        for store in (self.model, *self.stores):
            store.close()


class Counting:
    """A store that counts what it is asked."""

    def __init__(self, store: AnyStore) -> None:
        self._store = store
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        self.count += 1
        return getattr(self._store, name)


def _collector(got: list[Any]) -> Callable[[Any, BaseException | None], None]:
    return lambda answer, error: got.append(_plain(answer, error))


def _plain(answer: Any, error: BaseException | None) -> Any:
    if error is None:
        return answer
    if not isinstance(error, Refused):
        raise error
    return type(error).__name__, error.row


def _difference(expected: Any, got: Any) -> str:
    if isinstance(expected, dict):
        for name in expected:
            if expected[name] != got.get(name):
                return f"{name}:\n  model {expected[name]}\n  store {got.get(name)}"
    return f"  model {expected}\n  store {got}"


def run(steps: int, seed: int, *, postgres: str | None = None, look_every: int = 1) -> Counter[str]:
    """Drive worlds for ``steps`` steps; how often each kind of write and refusal occurred.

    ``postgres``: the URL of an empty database, which takes part then.
    """
    seen: Counter[str] = Counter()
    for number in range(-(-steps // STEPS_A_WORLD)):
        world_seed = seed * 1_000_003 + number
        with tempfile.TemporaryDirectory() as folder:
            stores: list[AnyStore] = [
                SqliteStore.open(folder, env=StillEnv(world_seed), project="demo")
            ]
            if postgres is not None:
                stores.append(emptied(postgres, world_seed))
            world = World(world_seed, stores, look_every=look_every)
            try:
                for _ in range(min(STEPS_A_WORLD, steps - number * STEPS_A_WORLD)):
                    world.step()
                world.look()
            except BaseException:
                print(f"seed {seed}, world {number}", file=sys.stderr)
                raise
            finally:
                world.close()
            seen += world.seen
            seen[OPERATIONS] += world.operations
    return seen


def emptied(url: str, seed: int) -> PostgresStore:
    """An empty store in that database that numbers as the model does: without the gaps that
    sequences have where a write is refused."""
    give_time(url)
    store = PostgresStore.open(url, env=StillEnv(seed), project="demo")
    with psycopg.connect(url, autocommit=True) as connection:
        tables = [
            name
            for (name,) in connection.execute(
                "select relname from pg_class where relkind = 'r'"
                " and relnamespace = 'kitaru'::regnamespace and relname <> 'meta'"
            )
        ]
        if "numbers_of_test" not in tables:
            connection.execute("create table kitaru.numbers_of_test (name text, last bigint)")
            connection.execute(
                "create function kitaru.next_of_test(kind text) returns bigint language sql as $$"
                " update kitaru.numbers_of_test set last = last + 1 where name = kind"
                " returning last $$"
            )
            connection.execute(
                "create function kitaru.next_wait_of_test() returns bigint language sql as $$"
                " select coalesce(max(id), 0) + 1 from kitaru.waits $$"
            )
            for name in (*NUMBERED, "waits"):
                # The number of a wait that is gone may be given again.
                given = "wait_of_test()" if name == "waits" else f"of_test('{name}')"
                connection.execute(
                    f"alter table kitaru.{name} alter id drop identity,"
                    f" alter id set default kitaru.next_{given}"
                )
            tables.append("numbers_of_test")
        connection.execute("truncate " + ", ".join(f"kitaru.{name}" for name in tables))
        connection.execute(
            "insert into kitaru.numbers_of_test select unnest(%s::text[]), 0", (list(NUMBERED),)
        )
        connection.execute("update kitaru.meta set executions_deleted = 0, calls_deleted = 0")
    return store


NUMBERED = ("owners", "executions", "calls", "artifacts")


def missing_kinds(seen: Counter[str]) -> list[str]:
    """What a run should have met and did not: such a run proves nothing about it."""
    return [name for name in (*WRITES, *REFUSALS) if not seen[name]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--postgres", action="store_true", help="with a server from a wheel")
    parser.add_argument("--look-every", type=int, default=1, metavar="N")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        url = None
        if arguments.postgres:
            url = stack.enter_context(database(stack.enter_context(serving())))
        seen = run(arguments.steps, arguments.seed, postgres=url, look_every=arguments.look_every)
    for name, count in sorted(seen.items()):
        print(f"{count:8,} {name}")
    if missing := missing_kinds(seen):
        sys.exit(f"never occurred: {', '.join(missing)}")


if __name__ == "__main__":
    main()
