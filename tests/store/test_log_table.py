"""Logs in a table of PostgreSQL: bounded, read on from any place, and held while it is away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kitaru._store.logs import RUNNER, STDOUT, Chunk
from kitaru._store.postgres import logs as table
from kitaru._store.postgres.logs import LogTable
from kitaru._store.postgres.store import PostgresStore
from kitaru.errors import KitaruBackendError

from .worlds import StillEnv

ID = "01a21528-7b55-76ab-9ef2-cce941e0f2c2"
LATER = "01a21528-7b55-76ab-9ef2-ffffffffffff"


@pytest.fixture
def store(postgres_url: str, env: StillEnv) -> Iterator[PostgresStore]:
    opened = PostgresStore.open(postgres_url, env=env, project="demo")
    yield opened
    opened.close()


def logs_of(store: PostgresStore, max_bytes: int = 1 << 20, total: int = 1 << 30) -> LogTable:
    return store.logs(max_bytes=max_bytes, max_total_bytes=total)


def line(text: str, at: int = 1_000_000) -> Chunk:
    return Chunk(at, STDOUT, text, "m.ck", "ab12", 2, [0, 5], module="m")


def read_all(logs: LogTable, exec_id: str = ID, after: str | None = None) -> list[Chunk]:
    found: list[Chunk] = []
    more = True
    while more:
        chunks, after, more = logs.read(exec_id, after)
        found += chunks
    return found


def rows(store: PostgresStore) -> list[Any]:
    return store._read("select exec_id, epoch, number from kitaru.logs order by 1, 2, 3", ())


def test_what_is_appended_is_read_back_equal_from_anywhere(store: PostgresStore) -> None:
    logs = logs_of(store)
    chunks = [line('a "quoted" ž \0 \\'), Chunk(2, "logging", "b\nc", level="INFO", lineno=3)]
    logs.append(ID, 1, chunks)
    assert logs.read(ID) == ([], None, False)  # who appends waits for nobody
    logs.tidy()
    assert read_all(logs_of(store)) == chunks


def test_a_reader_goes_on_where_it_stood_over_pages_and_lives(store: PostgresStore) -> None:
    place, seen = None, []
    for life in (1, 2, 4):
        logs = logs_of(store)  # each life is another process
        for number in range(40):
            logs.append(ID, life, [line(f"{life}/{number}")])
            if number % 3 == 0:
                logs.tidy()
                page = logs.read(ID, place)
                place = page.next
                seen += [chunk.text for chunk in page.chunks]
        logs.tidy()
    while True:
        page = logs.read(ID, place)
        place = page.next
        seen += [chunk.text for chunk in page.chunks]
        if not page.more:
            break
    assert seen == [f"{life}/{number}" for life in (1, 2, 4) for number in range(40)]
    assert [chunk.text for chunk in read_all(logs)] == seen
    assert logs.read(ID, place) == ([], place, False)


def test_the_oldest_of_a_log_goes_and_the_reader_is_told_how_much(store: PostgresStore) -> None:
    logs = logs_of(store, max_bytes=64 * 1024)
    for number in range(200):
        logs.append(ID, 1, [line(f"{number} " + "x" * 1000)])
        logs.tidy()
    ((size, dropped),) = store._read(
        "select sum(size)::int8, min(before) from kitaru.logs where exec_id = $1", (ID,)
    )
    assert size <= 64 * 1024
    first, *others = read_all(logs)
    assert first.source == RUNNER
    assert first.text.startswith(f"{dropped:,} bytes of the log were dropped here")
    assert others[-1].text.startswith("199 ")


def test_all_logs_together_keep_within_their_bound(store: PostgresStore, env: StillEnv) -> None:
    logs = logs_of(store, total=100_000)
    for number in range(20):
        env.at += 1_000_000
        logs.append(f"e-{number:02d}", 1, [line("x" * 10_000)])
        logs.tidy()
    kept = [exec_id for exec_id, _, _ in rows(store)]
    assert kept[-1] == "e-19"
    assert 5 <= len(kept) <= 10


def test_the_log_of_a_deleted_execution_is_gone(store: PostgresStore) -> None:
    logs = logs_of(store)
    for exec_id in (ID, LATER):
        logs.append(exec_id, 1, [line("a")])
    logs.tidy()
    logs.delete(ID)
    logs.delete("nobody")
    assert read_all(logs) == []
    assert rows(store) == [(LATER, 1, 0)]


def test_lines_wait_while_the_server_is_away_and_are_written_once(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = logs_of(store)
    logs.append(ID, 1, [line("before")])
    logs.tidy()
    read = store._database.read

    def away(sql: str, values: Any) -> Any:
        read(sql, values)  # it came there, and the answer did not come back
        raise KitaruBackendError("away", code="store-away")

    logs.append(ID, 1, [line("meanwhile")])
    monkeypatch.setattr(store._database, "read", away)
    with pytest.raises(KitaruBackendError):
        logs.tidy()
    monkeypatch.undo()
    logs.append(ID, 1, [line("after")])
    logs.tidy()
    assert [chunk.text for chunk in read_all(logs)] == ["before", "meanwhile", "after"]


def test_what_waits_is_bounded(store: PostgresStore) -> None:
    logs = logs_of(store, max_bytes=1 << 24)
    lines = [line("x" * 1_000_000)] * 9
    with pytest.raises(KitaruBackendError, match="takes no logs for now"):
        logs.append(ID, 1, lines)
    logs.tidy()
    kept = sum(len(chunk.text) for chunk in read_all(logs))
    assert table.MAX_WAITING_BYTES * 0.8 < kept <= table.MAX_WAITING_BYTES
    logs.append(ID, 1, [line("and there is room again")])
