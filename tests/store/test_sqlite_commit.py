"""Commits under trouble: interruptions, locks, full disks, moved files, forks."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from kitaru._core.payload import seal
from kitaru._store.commit import Ticket
from kitaru._store.protocol import NO_FACTS, Fenced, Record
from kitaru._store.sqlite.store import SqliteStore
from kitaru.errors import KitaruBackendError, KitaruValueError

from .worlds import Died, StillEnv, call_row, facts, json_payload, new_owner, run_sql, started

ONE = b"1" * 16
TWO = b"2" * 16


def record(identity: bytes = ONE, size: int = 5, epoch: int = 1) -> Record:
    return Record(1, epoch, facts(call_row(identity, payload=json_payload("7" * size))))


@pytest.fixture
def store(sqlite_store: SqliteStore) -> SqliteStore:
    started(sqlite_store, new_owner(sqlite_store).id)
    return sqlite_store


def recorded(store: SqliteStore) -> list[bytes]:
    return [outcome.identity for outcome in store.load_outcomes(1)]


class Gate:
    """Holds the leader at a crash point until others have queued up."""

    def __init__(self, env: StillEnv, store: SqliteStore, point: str, waiting: int) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.armed = True
        plain = env.crash_point

        def crash_point(name: str) -> None:
            plain(name)
            if name == point and self.armed:
                self.armed = False
                self.reached.set()
                assert self.opened.wait(30)

        store._commits._crash_point = crash_point
        self.store, self.waiting = store, waiting

    def open_when_all_wait(self) -> None:
        while len(self.store._commits._queue) < self.waiting:
            threading.Event().wait(0.001)
        self.opened.set()


def in_threads(
    store: SqliteStore, writes: list[Record]
) -> tuple[list[threading.Thread], dict[int, Any]]:
    answers: dict[int, Any] = {}

    def work(number: int, write: Record) -> None:
        try:
            answers[number] = store.apply(write)
        except BaseException as error:
            answers[number] = error

    threads = [threading.Thread(target=work, args=item, daemon=True) for item in enumerate(writes)]
    for thread in threads:
        thread.start()
    return threads, answers


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()


def test_who_queued_meanwhile_is_committed_in_one_transaction(
    store: SqliteStore, env: StillEnv
) -> None:
    gate = Gate(env, store, "before_begin", 8)
    first, _ = in_threads(store, [record(b"first")])
    assert gate.reached.wait(30)
    rest, answers = in_threads(store, [record(bytes([k]), epoch=k % 4 and 1) for k in range(8)])
    env.crash_points.clear()
    gate.open_when_all_wait()
    join(first + rest)
    assert env.crash_points.count("before_begin") == 1
    assert env.crash_points.count("after_commit:Record") == 1 + 6
    assert [type(answers[k]) for k in (0, 4)] == [Fenced, Fenced]
    assert [answers[k] for k in (1, 2, 3, 5, 6, 7)] == [None] * 6
    assert len(recorded(store)) == 7


@pytest.mark.parametrize("point", ["before_begin", "before_commit:Record", "after_commit:Record"])
def test_an_interruption_leaves_no_transaction_and_an_answer_for_everyone(
    store: SqliteStore, env: StillEnv, point: str
) -> None:
    gate = Gate(env, store, "before_begin", 4)
    leader, leader_answer = in_threads(store, [record(b"first")])
    assert gate.reached.wait(30)
    posted: list[Any] = []
    store.post(record(b"posted"), lambda answer, error: posted.append(error))
    rest, answers = in_threads(store, [record(bytes([k])) for k in range(3)])
    while len(store._commits._queue) < 4:
        threading.Event().wait(0.001)
    # The next leader dies, once, inside the commit of them all.
    plain, left = env.crash_point, [1]

    def die_once(name: str) -> None:
        plain(name)
        if name == point and left:
            left.pop()
            raise KeyboardInterrupt

    store._commits._crash_point = die_once
    gate.opened.set()
    join(leader + rest)
    everyone = [*leader_answer.values(), *answers.values()]
    assert [type(answer) for answer in everyone].count(KeyboardInterrupt) == 1
    assert everyone.count(None) == 3
    assert posted == [None]
    assert not store._database.is_open()
    lost = 0 if point == "after_commit:Record" else 1
    assert len(recorded(store)) == 5 - lost
    store.apply(record(b"later"))


def test_an_interruption_before_the_commit_records_nothing(
    store: SqliteStore, env: StillEnv
) -> None:
    env.die_at = "before_commit:Record"
    with pytest.raises(Died):
        store.apply(record())
    env.die_at = None
    assert recorded(store) == []
    assert not store._database.is_open()
    store.apply(record())
    assert recorded(store) == [ONE]


def test_a_group_larger_than_one_transaction_is_committed_whole_and_in_order(
    store: SqliteStore,
) -> None:
    identities = [b"%05d" % number for number in range(2_500)]
    errors: list[Any] = []
    for identity in identities:
        store.post(record(identity), lambda answer, error: errors.append(error))
    store.apply(record(b"last"))
    assert recorded(store) == [*identities, b"last"]
    assert errors == [None] * 2_500


def test_a_broken_callback_does_not_keep_the_others_from_their_answers(store: SqliteStore) -> None:
    seen: list[str] = []

    def broken(answer: Any, error: BaseException | None) -> None:
        raise RuntimeError("broken")

    store.post(record(b"a"), broken)
    store.post(record(b"b"), lambda answer, error: seen.append("told"))
    with pytest.raises(RuntimeError, match="broken"):
        store.flush(wait=True)
    assert seen == ["told"]
    store.apply(record(b"c"))
    assert len(recorded(store)) == 3


# --- the lock is elsewhere ---


def test_a_flush_without_waiting_gives_up_at_once_if_another_connection_writes(
    store: SqliteStore,
) -> None:
    other = apsw.Connection(store._database.path)
    other.execute("begin immediate")
    done: list[Any] = []
    store.post(record(), lambda answer, error: done.append(error))
    assert store.flush(wait=False) is False
    assert done == []
    other.execute("rollback")
    other.close()
    assert store.flush(wait=False) is True
    assert done == [None]
    assert run_sql(store, "pragma busy_timeout") == [(30_000,)]


def test_a_flush_without_waiting_gives_up_at_once_if_another_thread_commits(
    store: SqliteStore, env: StillEnv
) -> None:
    gate = Gate(env, store, "before_commit:Record", 0)
    threads, _ = in_threads(store, [record(b"first")])
    assert gate.reached.wait(30)
    store.post(record(), lambda answer, error: None)
    assert store.flush(wait=False) is False
    gate.opened.set()
    join(threads)
    assert store.flush(wait=False) is True
    assert len(recorded(store)) == 2


def test_a_lock_that_is_never_released_is_a_typed_error_with_a_remedy(store: SqliteStore) -> None:
    other = apsw.Connection(store._database.path)
    other.execute("begin immediate")
    store._database._connection.set_busy_timeout(20)
    with pytest.raises(KitaruBackendError, match="another process holds the write lock"):
        store.apply(record())
    other.execute("rollback")
    other.close()
    store.apply(record())


# --- the disk fails ---


def test_a_full_disk_is_a_typed_error_and_the_store_goes_on_afterwards(store: SqliteStore) -> None:
    ((pages,),) = run_sql(store, "pragma page_count")
    run_sql(store, f"pragma max_page_count = {pages}")

    def fill() -> None:
        for number in range(50):
            store.apply(record(bytes([number]), size=8_000))

    with pytest.raises(KitaruBackendError, match="disk is full"):
        fill()
    taken = len(recorded(store))
    assert not store._database.is_open()
    run_sql(store, "pragma max_page_count = 1000000")
    store.apply(record(b"after", size=8_000))
    assert len(recorded(store)) == taken + 1


def test_a_full_disk_fails_everyone_in_the_group(store: SqliteStore) -> None:
    ((pages,),) = run_sql(store, "pragma page_count")
    run_sql(store, f"pragma max_page_count = {pages}")
    errors: list[Any] = []
    for number in range(40):
        store.post(record(bytes([number]), 8_000), lambda answer, error: errors.append(error))
    store.flush(wait=True)
    assert {type(error) for error in errors} == {KitaruBackendError}
    assert recorded(store) == []


def test_a_store_that_cannot_be_written_says_so(store: SqliteStore) -> None:
    run_sql(store, "pragma query_only = 1")
    with pytest.raises(KitaruBackendError, match="may not be written"):
        store.apply(record())
    run_sql(store, "pragma query_only = 0")
    store.apply(record())


# --- the file is not the file ---


@pytest.mark.parametrize("file", ["kitaru.db", "kitaru.db-wal"])
@pytest.mark.parametrize("how", ["moved", "replaced"])
def test_a_file_that_is_gone_from_its_path_stops_all_writing(
    store: SqliteStore, tmp_path: Path, file: str, how: str
) -> None:
    os.rename(tmp_path / file, tmp_path / "elsewhere")
    if how == "replaced":
        (tmp_path / file).write_bytes((tmp_path / "elsewhere").read_bytes())
    for _ in range(2):
        with pytest.raises(KitaruBackendError, match=r"moved, deleted or replaced"):
            store.apply(record())


# --- fork ---


def in_a_fork(action: Any) -> str:
    """What ``action`` raised in a forked child, as text."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            action()
            text = "nothing"
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child, 0)
    return text


def test_a_forked_child_gets_a_clear_error_and_its_parent_goes_on(
    store: SqliteStore, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    def write() -> None:
        store.apply(record())

    def read() -> None:
        store.load_outcomes(1)

    def open_anew() -> None:
        SqliteStore.open(str(tmp_path), env=StillEnv(), project="demo")

    def leave() -> None:
        store.close()

    store.load_outcomes(1)
    for action in (write, read, open_anew):
        assert in_a_fork(action).startswith("KitaruBackendError: the store"), action
        assert "fork" in in_a_fork(action)
    assert in_a_fork(leave) == "nothing"
    store.apply(record())
    assert recorded(store) == [ONE]


# --- blobs and damage ---


def blob_files(folder: Path) -> list[Path]:
    return [path for path in (folder / "blobs").rglob("*") if path.is_file()]


def test_a_large_payload_is_one_compressed_file_of_its_owner_alone(
    store: SqliteStore, tmp_path: Path
) -> None:
    for identity in (b"a", b"b"):
        store.apply(record(identity, size=100_000))
    (file,) = blob_files(tmp_path)
    digest = json_payload("7" * 100_000).digest.hex()
    assert file.relative_to(tmp_path / "blobs") == Path(digest[:2], digest[2:])
    assert file.stat().st_mode & 0o777 == 0o600
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "blobs").iterdir()} == {0o700}
    assert file.stat().st_size < 2_000
    assert run_sql(store, "select count(*) from calls where data is null") == [(2,)]


@pytest.mark.parametrize("size", [40_000, 200_000])
def test_what_does_not_shrink_is_written_as_it_is_and_read_back(
    store: SqliteStore, tmp_path: Path, size: int
) -> None:
    noise = random.Random(1).randbytes(size)
    store.apply(Record(1, 1, facts(call_row(ONE, payload=seal("attachments", noise)))))
    (file,) = blob_files(tmp_path)
    assert size <= file.stat().st_size < size + 200
    assert store.load_payload(1).data == noise


def test_a_damaged_blob_is_written_again_by_the_next_who_needs_it(
    store: SqliteStore, tmp_path: Path
) -> None:
    store.apply(record(b"a", size=100_000))
    (file,) = blob_files(tmp_path)
    file.write_bytes(b"rubbish")
    with pytest.raises(KitaruValueError):
        store.load_payload(1)
    store.apply(record(b"b", size=100_000))
    assert len(store.load_payload(1).data) == 100_000


def test_damage_is_named_with_execution_checkpoint_and_remedy(
    store: SqliteStore, tmp_path: Path
) -> None:
    store.apply(record(b"a"))
    store.apply(record(b"b", size=100_000))
    run_sql(store, "update calls set data = x'00' where id = 1")
    blob_files(tmp_path)[0].unlink()
    for call in (1, 2):
        with pytest.raises(KitaruValueError, match=r"demo\.research.*e-1.*backup") as caught:
            store.load_payload(call)
        assert caught.value.checkpoint == "demo.research"
        with pytest.raises(KitaruValueError):
            store.load_payloads(1, [call, 5])
    assert [call.row.payload.codec for call in store.list_calls(1, limit=5)] == ["unreadable"] * 2


def test_a_page_of_payloads_ends_before_a_damaged_one(store: SqliteStore) -> None:
    for identity in (b"a", b"b", b"c"):
        store.apply(record(identity))
    run_sql(store, "update calls set data = x'00' where id = 2")
    assert [number for number, _ in store.load_payloads(1, [1, 2, 3])] == [1]
    assert [number for number, _ in store.load_payloads(1, [3, 9])] == [3]


def test_a_damaged_source_is_a_miss_and_the_next_older_one_serves(store: SqliteStore) -> None:
    for number, name in enumerate(("e-2", "e-3"), start=2):
        row = started(store, 1, name).row
        assert row.id == number
        call = call_row(ONE, reuse_key=b"key")
        store.apply(Record(row.id, 1, facts(call)))
    run_sql(store, "update calls set data = x'00' where execution = 3")
    source = store.find_reusable(b"key", execution=1, before=None, since=None)
    assert source is not None
    assert source.exec_id == "e-2"
    run_sql(store, "update calls set data = x'00'")
    assert store.find_reusable(b"key", execution=1, before=None, since=None) is None


def test_a_damaged_execution_does_not_hide_the_others(store: SqliteStore) -> None:
    started(store, 1, "e-2")
    run_sql(store, "update executions set inputs_data = x'00' where id = 1")
    with pytest.raises(KitaruValueError, match=r"inputs of execution e-1"):
        store.find_execution("e-1")
    rows = store.list_unfinished(project="demo", flow_ids=["demo.agent"], limit=9)
    assert [row.exec_id for row in rows] == ["e-1", "e-2"]
    assert rows[0].inputs is not None
    assert rows[0].inputs.codec == "unreadable"


def test_text_that_is_no_text_is_refused_and_harms_nobody(store: SqliteStore) -> None:
    with pytest.raises(UnicodeEncodeError):
        store.apply(Record(1, 1, facts(call_row(ONE, branch="\ud800"))))
    store.apply(Record(1, 1, NO_FACTS))
    assert recorded(store) == []


# --- several processes ---

WRITER = """
import sys
from kitaru._store.protocol import Record
from kitaru._store.sqlite.store import SqliteStore
from kitaru.env import SystemEnv
from store.worlds import call_row, facts, started
folder, name = sys.argv[1:]
store = SqliteStore.open(folder, env=SystemEnv(), project="demo")
row = started(store, 1, name).row
for number in range(100):
    store.apply(Record(row.id, 1, facts(call_row(b"%d" % number))))
store.close()
"""


def test_processes_that_write_at_once_lose_nothing(store: SqliteStore, tmp_path: Path) -> None:
    tests = str(Path(__file__).parents[1])
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), name],
            env={**os.environ, "PYTHONPATH": tests},
        )
        for name in ("p-1", "p-2", "p-3")
    ]
    for number in range(100):
        store.apply(record(b"%d" % number))
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    for row in store.list_executions(project="demo", limit=9):
        assert len(store.load_outcomes(row.id)) == 100, row.exec_id
    assert run_sql(store, "pragma integrity_check") == [("ok",)]


def test_a_lead_that_was_left_behind_is_taken_over(store: SqliteStore) -> None:
    commits = store._commits
    left = commits.borrow()
    assert left is not None
    left.gone = True  # its thread has gone, with no room on its stack to pass the lead on
    store.apply(record())
    assert recorded(store) == [ONE]


def _write_after_a_read(store: SqliteStore) -> None:
    assert store.find_reusable(b"k" * 32, execution=1, before=None, since=None) is None
    store.apply(record(ONE))


def _flush_what_was_posted(store: SqliteStore) -> None:
    store.post(record(ONE), lambda answer, error: None)
    assert store.flush(wait=False)


@pytest.mark.parametrize(
    "come_next",
    [
        pytest.param(lambda store: store.apply(record(ONE)), id="a write"),
        pytest.param(_write_after_a_read, id="a write after a read through the same connection"),
        pytest.param(_flush_what_was_posted, id="a flush that does not wait"),
    ],
)
def test_who_waits_behind_a_lead_that_was_left_is_answered_by_the_next(
    store: SqliteStore, come_next: Callable[[SqliteStore], None]
) -> None:
    commits = store._commits
    left = commits.borrow()
    assert left is not None
    waiting = Ticket(record(TWO))
    waiting.gate = threading.Lock()
    waiting.gate.acquire()
    commits._group = [left, waiting]
    left.gone = True
    come_next(store)
    assert waiting.gate.acquire(timeout=30)
    assert waiting.error is None
    assert sorted(recorded(store)) == sorted([ONE, TWO])


def test_who_comes_back_late_does_not_take_the_lead_from_its_new_holder(
    store: SqliteStore,
) -> None:
    commits = store._commits
    late = commits.borrow()
    assert late is not None
    late.gone = True
    holder = commits.borrow()
    assert holder is not None
    commits.give_back(late)
    assert commits.borrow() is None, "the lead is still held"
    commits.give_back(holder)
    store.apply(record())
    assert recorded(store) == [ONE]


def test_a_row_that_breaks_the_schema_is_told_as_a_bug_and_not_as_a_refusal(
    store: SqliteStore,
) -> None:
    broken = call_row(ONE, attempt=0)
    with pytest.raises(AssertionError, match="breaks the schema"):
        store.apply(Record(1, 1, facts(broken)))
    assert recorded(store) == []
    store.apply(record())
    assert recorded(store) == [ONE]
