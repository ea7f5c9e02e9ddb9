"""Every commit has a named crash point, and a death at any of them loses nothing acknowledged."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import kitaru._store as store_package
from kitaru._store import protocol
from kitaru._store.postgres import store as postgres
from kitaru._store.protocol import Record
from kitaru._store.sqlite.store import CRASH_POINTS, SqliteStore

from .worlds import StillEnv, call_row, facts, json_payload, new_owner, started

PACKAGE = Path(store_package.__file__).parent


def test_every_kind_of_write_has_its_crash_points() -> None:
    kinds = set(get_args(protocol.Write))
    for kind in kinds:
        assert f"before_commit:{kind.__name__}" in CRASH_POINTS
        assert f"after_commit:{kind.__name__}" in CRASH_POINTS


def test_the_list_and_the_code_name_the_same_crash_points() -> None:
    named: set[str] = set()
    for file in PACKAGE.rglob("*.py"):
        named |= set(re.findall(r"crash_point\(\s*\"(\w+)\"", file.read_text(encoding="utf-8")))
    listed = {*CRASH_POINTS, *postgres.CRASH_POINTS}
    assert named == {point for point in listed if ":" not in point}


CHILD = """
import os, sys
from kitaru._store.protocol import Record
from kitaru._store.sqlite.store import SqliteStore
from store.worlds import StillEnv, call_row, facts, json_payload, new_owner, started

folder, point = sys.argv[1:]

class Mortal(StillEnv):
    def crash_point(self, name):
        if name == point:
            os._exit(7)

store = SqliteStore.open(folder, env=Mortal(), project="demo")
row = store.find_execution("e-1")
if row is None:
    row = started(store, new_owner(store).id).row
big = call_row(b"big", payload=json_payload("x" * 50_000))
store.apply(Record(row.id, 1, facts(call_row(b"small"), big)))
print("acknowledged", flush=True)
"""

POINTS = [
    "store_made",
    "store_linked",
    "before_begin",
    "before_commit:RegisterOwner",
    "after_commit:RegisterOwner",
    "before_commit:Start",
    "after_commit:Start",
    "before_commit:Record",
    "after_commit:Record",
    "blob_written",
    "blob_synced",
    "blob_renamed",
]


@pytest.mark.parametrize("point", POINTS)
def test_a_process_that_dies_there_leaves_all_or_nothing_and_a_usable_store(
    tmp_path: Path, point: str
) -> None:
    tests = str(Path(__file__).parents[1])
    died = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), point],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": tests},
        timeout=60,
        check=False,
    )
    assert died.returncode == 7, died.stderr.decode()
    assert died.stdout == b""
    store = SqliteStore.open(str(tmp_path), env=StillEnv(9), project="demo")
    row = store.find_execution("e-1")
    recorded = [] if row is None else store.list_calls(row.id, limit=9)
    assert len(recorded) == (2 if point == "after_commit:Record" else 0)
    if row is None:
        row = started(store, new_owner(store, "second").id).row
    if not recorded:
        big = call_row(b"big", payload=json_payload("x" * 50_000))
        store.apply(Record(row.id, 1, facts(call_row(b"small"), big)))
    assert [call.row.payload.data[:1] for call in store.list_calls(row.id, limit=9)] == [b'"', b"x"]
    store.close()
