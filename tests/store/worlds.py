"""What the store's tests share: a clock that stands, rows to write, states to force."""

from __future__ import annotations

import random
from typing import Any

from kitaru._core.lifecycle import CallSource, CallState, State, WaitKind
from kitaru._core.payload import Payload, seal
from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import (
    CallRow,
    Claim,
    Facts,
    Finish,
    Owner,
    Record,
    RegisterOwner,
    Start,
    Started,
    WaitRow,
)
from kitaru._store.reference import ReferenceStore
from kitaru._store.sqlite.store import SqliteStore
from kitaru.env import uuid7

AnyStore = ReferenceStore | SqliteStore | PostgresStore


class StillEnv:
    """An Env whose clock stands, whose randomness is seeded, and that notes crash points."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self.at = 1_700_000_000_000_000
        self.crash_points: list[str] = []
        self.die_at: str | None = None

    def now(self) -> int:
        return self.at

    def monotonic(self) -> float:
        return self.at / 1e6

    def new_id(self) -> str:
        return uuid7(self.at // 1000, self._random.randbytes(10))

    def random_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def jitter(self) -> float:
        return self._random.random()

    def crash_point(self, name: str) -> None:
        self.crash_points.append(name)
        if name == self.die_at:
            raise Died(name)


class Died(BaseException):
    """Stands for the end of the process at a crash point."""


def json_payload(text: str) -> Payload:
    return seal("json", text.encode())


def call_row(identity: bytes, **changes: Any) -> CallRow:
    row = CallRow(
        identity=identity,
        attempt=1,
        state=CallState.COMPLETED,
        source=CallSource.RAN,
        seq=0,
        place=0,
        n=0,
        checkpoint="demo.research",
        named=None,
        kind=None,
        parent=None,
        parent_attempt=0,
        branch="",
        arguments='{"topic":"00"}',
        inputs='{"topic":"rivers"}',
        inputs_digest=b"inputs",
        reuse_key=None,
        code=None,
        reused_from=None,
        reason="never recorded",
        metadata=None,
        retry_at=None,
        started_at=100,
        ended_at=200,
        payload=json_payload('"found"'),
    )
    return row._replace(**changes)


def failed_call(identity: bytes, **changes: Any) -> CallRow:
    return call_row(
        identity, state=CallState.FAILED, payload=json_payload('{"type":"ValueError"}')
    )._replace(**changes)


def start_write(exec_id: str, owner: int | None, **changes: Any) -> Start:
    return Start(
        exec_id=exec_id,
        project="demo",
        flow_id="demo.agent",
        flow_name="agent",
        key=None,
        inputs_digest=b"digest",
        inputs=json_payload('{"topic":"rivers"}'),
        seed=b"seed",
        spec="{}",
        tags="[]",
        code_folder="/home/ada/demo",
        code_module="demo",
        owner=owner,
        home=owner,
        at=1_000,
    )._replace(**changes)


def new_owner(store: AnyStore, name: str = "lock-1") -> Owner:
    owner: Owner = store.apply(RegisterOwner(lock_name=name, pid=11, host="here", at=1))
    return owner


def started(store: AnyStore, owner: int | None, exec_id: str = "e-1", **changes: Any) -> Started:
    answer: Started = store.apply(start_write(exec_id, owner, **changes))
    return answer


def facts(*calls: CallRow) -> Facts:
    return Facts(calls=calls)


def wait_row(identity: bytes, **changes: Any) -> WaitRow:
    return WaitRow(
        identity=identity,
        kind=WaitKind.INPUT,
        label="ok",
        name="ok",
        question="Go on?",
        schema='{"type":"boolean"}',
        metadata=None,
        branch="",
        call=None,
        opened_at=1_000,
        expires_at=None,
        default=None,
    )._replace(**changes)


def opened(*waits: WaitRow) -> Facts:
    return Facts(waits=waits)


def force_status(store: AnyStore, execution: int, status: State) -> None:
    """Put an execution into a state, whatever came before."""
    if isinstance(store, ReferenceStore):
        row = store._executions[execution]
        owner = row.owner if status in (State.RUNNING, State.CANCELLING) else None
        store._executions[execution] = row._replace(status=status, owner=owner)
        return
    owner_sql = "owner" if status in (State.RUNNING, State.CANCELLING) else "null"
    table, first, second = ("executions", "?1", "?2")
    if isinstance(store, PostgresStore):
        table, first, second = ("kitaru.executions", "$1", "$2")
    run_sql(
        store,
        f"update {table} set status = {first}, owner = {owner_sql} where id = {second} returning 1",
        (status.value, execution),
    )


def work_through(
    store: PostgresStore, name: str, failures: list[BaseException], *, lives: int = 12
) -> None:
    """Lives of an execution, one after another: hot statements and transactions."""
    try:
        owner = new_owner(store, f"lock-{name}").id
        for life in range(lives):
            row = store.apply(start_write(f"{name}-{life}", None)).row
            store.apply(Claim(row.id, 0, owner, None, 5))
            for n in range(6):
                store.apply(Record(row.id, 1, facts(call_row(n.to_bytes(32, "big")))))
            assert len(store.load_outcomes(row.id)) == 6
            call = call_row(bytes(31) + b"x")
            store.apply(Finish(row.id, 1, call.payload, None, (), None, facts(call), 9))
            assert store.get_status(row.id)[0] is State.COMPLETED
    except BaseException as error:
        failures.append(error)


def run_sql(
    store: SqliteStore | PostgresStore, sql: str, values: tuple[Any, ...] = ()
) -> list[Any]:
    """Run SQL on the store's own writing connection."""
    return store._database.rows(sql, values)
