"""Executions that wait, made through the store's protocol: no flow has to run for them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from kitaru import app
from kitaru._core.lifecycle import WaitKind
from kitaru._core.values import encode
from kitaru._engine import schemas
from kitaru._store.protocol import (
    ExecutionRow,
    Facts,
    Park,
    Record,
    RegisterOwner,
    Start,
    WaitRow,
)


@dataclass
class Asks:
    """A wait as a test wants it."""

    name: str | None = "approve"
    asked: Any = bool
    question: str | None = None
    metadata: str | None = None
    expires_at: int | None = None
    kind: WaitKind = WaitKind.INPUT
    branch: str = "."
    label: str | None = None


def waiting(*asks: Asks, flow: str = "release", parked: bool = True) -> ExecutionRow:
    """An execution of a flow that nobody knows, whose owner is dead, and that waits."""
    kitaru = app.current()
    store, env = kitaru.store, kitaru.env
    now = env.now()
    exec_id = env.new_id()
    owner = store.apply(RegisterOwner(f"gone-{exec_id}", 1, "elsewhere", now))
    started = store.apply(
        Start(
            exec_id=exec_id,
            project=kitaru.project,
            flow_id=f"desk.{flow}",
            flow_name=flow,
            key=None,
            inputs_digest=b"\0" * 32,
            inputs=encode({}, what="inputs"),
            seed=b"\0" * 32,
            spec="{}",
            tags="[]",
            code_folder=None,
            code_module=None,
            owner=owner.id,
            home=owner.id,
            at=now,
        )
    )
    row: ExecutionRow = started.row
    rows = tuple(_row(number, each, now) for number, each in enumerate(asks))
    store.apply(Record(row.id, row.epoch, Facts(waits=rows)))
    if parked:
        identities = tuple(each.identity for each in rows)
        reason = "waits for input"
        store.apply(
            Park(row.id, row.epoch, identities, (), None, reason, owner.id, Facts(), env.now())
        )
    found = store.find_execution(exec_id)
    assert found is not None
    return found


def _row(number: int, each: Asks, now: int) -> WaitRow:
    label = each.label or each.name or f"wait_condition:{number}"
    identity = hashlib.blake2b(f"{number}{label}".encode(), digest_size=16).digest()
    return WaitRow(
        identity=identity,
        kind=each.kind,
        label=label,
        name=each.name,
        question=each.question,
        schema=schemas.schema_of(each.asked),
        metadata=each.metadata,
        branch=each.branch,
        call=None,
        opened_at=now + number,
        expires_at=each.expires_at,
        default=None,
    )
