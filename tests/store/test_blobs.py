"""Large values in files, in a table and in an object store: one suite for all places."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import kitaru
from kitaru import KitaruClient, flow
from kitaru._core.payload import Payload, seal
from kitaru._store.blobs import INLINE_BYTES
from kitaru._store.objects import Objects, Place
from kitaru._store.postgres.blobs import TableBlobs
from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import DropBlobs
from kitaru._store.sqlite.store import SqliteStore
from kitaru.env import SystemEnv
from kitaru.errors import KitaruBackendError, KitaruUsageError

from . import objects_kit
from .objects_kit import S3
from .worlds import StillEnv, new_owner, started

FOREVER = 1 << 62
_numbers = itertools.count()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    with objects_kit.serving() as server:
        yield server


@pytest.fixture
def bucket(s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a fresh bucket that this process may use."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    name = f"values-{os.getpid()}-{next(_numbers)}"
    s3.make_bucket(name)
    return f"s3://{name}/some/where"


def _files(request: pytest.FixtureRequest, env: StillEnv) -> SqliteStore:
    folder = request.getfixturevalue("tmp_path")
    return SqliteStore.open(str(folder), env=env, project="demo")


def _table(request: pytest.FixtureRequest, env: StillEnv) -> PostgresStore:
    return PostgresStore.open(request.getfixturevalue("postgres_url"), env=env, project="demo")


def _objects(request: pytest.FixtureRequest, env: StillEnv) -> PostgresStore:
    url = request.getfixturevalue("postgres_url")
    return in_objects(url, request.getfixturevalue("bucket"), env)


def in_objects(url: str, bucket: str, env: StillEnv) -> PostgresStore:
    objects = Objects(Place.parse(bucket, "objects"))
    return PostgresStore.open(url, env=env, project="demo", objects=objects)


PLACES: dict[str, Callable[[pytest.FixtureRequest, StillEnv], Any]] = {
    "files": _files,
    "objects": _objects,
    "table": _table,
}


@pytest.fixture(params=sorted(PLACES))
def store(request: pytest.FixtureRequest, env: StillEnv) -> Iterator[Any]:
    env.at = SystemEnv().now()  # files and objects are as old as the system's clock says
    opened = PLACES[request.param](request, env)
    yield opened
    opened.close()


def large(seed: int = 0, size: int = 2 * INLINE_BYTES) -> Payload:
    return seal("raw", (b"%09d " % seed) * (size // 10))


def test_what_is_kept_is_found_as_it_was(store: Any) -> None:
    blobs = store._blobs
    value = large()
    assert blobs.find(value.digest) is None
    blobs.keep(value)
    blobs.keep(value)
    assert blobs.find(value.digest) == value.data
    assert [digest for digest, _ in blobs.list_files(before=FOREVER)] == [value.digest]


def test_bytes_that_do_not_shrink_are_kept_too(store: Any) -> None:
    value = seal("raw", os.urandom(3 * INLINE_BYTES))
    store._blobs.keep(value)
    assert store._blobs.find(value.digest) == value.data


def test_its_size_is_what_it_takes_there(store: Any) -> None:
    value = large()
    store._blobs.keep(value)
    ((_, size),) = store._blobs.list_files(before=FOREVER)
    assert 0 < size < len(value.data)


def test_a_stray_one_is_dropped_and_can_be_kept_again(store: Any) -> None:
    value = large()
    store._blobs.keep(value)
    stray = store.list_stray_blobs(before=FOREVER)
    assert [digest for digest, _ in stray] == [value.digest]
    assert store.apply(DropBlobs((value.digest,))) == [value.digest]
    store.drop_leftovers(before=FOREVER)
    assert store._blobs.find(value.digest) is None
    assert store.list_stray_blobs(before=FOREVER) == []
    store._blobs.keep(value)
    store.drop_leftovers(before=FOREVER)
    assert store._blobs.find(value.digest) == value.data


def test_one_that_a_row_names_is_not_dropped(store: Any) -> None:
    value = large()
    owner = new_owner(store).id
    started(store, owner, inputs=value)
    assert store.list_stray_blobs(before=FOREVER) == []
    assert store.apply(DropBlobs((value.digest,))) == []
    store.drop_leftovers(before=FOREVER)
    assert store._blobs.find(value.digest) == value.data


def test_one_that_was_kept_a_moment_ago_is_left_alone(store: Any, env: StillEnv) -> None:
    store._blobs.keep(large())
    before = SystemEnv().now() - 3_600_000_000
    assert store.list_stray_blobs(before=before) == []
    assert store.drop_leftovers(before=before) == 0


def test_one_that_is_dropped_before_its_row_is_written_is_kept_again(store: Any) -> None:
    """Between `keep` and the transaction that names it, a housekeeper may come by."""
    value = large()
    owner = new_owner(store).id
    keep = store._blobs.keep
    dropped: list[bytes] = []

    def keep_and_drop(payload: Payload) -> None:
        keep(payload)
        if not dropped:
            dropped.append(payload.digest)
            assert store.apply(DropBlobs((payload.digest,))) == [payload.digest]
            store.drop_leftovers(before=FOREVER)

    store._blobs.keep = keep_and_drop
    row = started(store, owner, inputs=value).row
    store.drop_leftovers(before=FOREVER)
    assert dropped == [value.digest]
    assert row.inputs.data == value.data
    assert store.find_execution(row.exec_id).inputs.data == value.data


# --- only objects ------------------------------------------------------------------------------


def test_a_value_moves_neither_when_the_place_changes(
    postgres_url: str, bucket: str, env: StillEnv
) -> None:
    """Each row says where its bytes stand, so the setting counts for new ones only."""
    table = PostgresStore.open(postgres_url, env=env, project="demo")
    table._blobs.keep(large(1))
    table.close()
    one = in_objects(postgres_url, bucket, env)
    one._blobs.keep(large(2))
    assert one._blobs.find(large(1).digest) == large(1).data
    one.close()
    other = in_objects(postgres_url, bucket + "/else", env)
    assert other._blobs.find(large(2).digest) == large(2).data
    other.close()


def test_who_was_told_of_no_object_store_is_told_where_a_value_stands(
    postgres_url: str, bucket: str, env: StillEnv
) -> None:
    objects = in_objects(postgres_url, bucket, env)
    objects._blobs.keep(large())
    table = PostgresStore.open(postgres_url, env=env, project="demo")
    with pytest.raises(KitaruBackendError, match=rf"stands in {bucket}/.*KITARU_OBJECTS") as told:
        table._blobs.find(large().digest)
    assert told.value.code == "objects-unknown"
    # It cannot look whether the object is there, so it brings the bytes into the table.
    table._blobs.keep(large())
    assert table._blobs.find(large().digest) == large().data
    assert objects._blobs.find(large().digest) == large().data
    assert objects.drop_leftovers(before=FOREVER) == 1
    assert objects._blobs.find(large().digest) == large().data
    table.close()
    objects.close()


def test_an_object_whose_writer_died_is_written_by_the_next(
    postgres_url: str, bucket: str, env: StillEnv
) -> None:
    store = in_objects(postgres_url, bucket, env)
    blobs = store._blobs
    assert isinstance(blobs, TableBlobs)
    objects = blobs.objects
    assert objects is not None
    blobs._keep_row(large().digest, None, objects.address("aa/left"), 10)  # and died here
    assert blobs.find(large().digest) is None
    blobs.keep(large())
    assert blobs.find(large().digest) == large().data
    assert objects.size(objects.address("aa/left")) is not None
    store.close()


def test_an_object_without_a_row_is_a_leftover(
    postgres_url: str, bucket: str, env: StillEnv
) -> None:
    store = in_objects(postgres_url, bucket, env)
    objects = Objects(Place.parse(bucket, "objects"))
    objects.put(objects.address("aa/left"), b"x")
    store._blobs.keep(large())
    assert store.drop_leftovers(before=0) == 0
    assert store.drop_leftovers(before=FOREVER) == 1
    assert objects.get(objects.address("aa/left")) is None
    assert store._blobs.find(large().digest) == large().data
    store.close()


def test_an_object_that_was_damaged_or_removed_is_not_taken_for_the_value(
    postgres_url: str, bucket: str, env: StillEnv
) -> None:
    store = in_objects(postgres_url, bucket, env)
    store._blobs.keep(large())
    with psycopg.connect(postgres_url) as connection:
        ((address,),) = connection.execute("select address from kitaru.blobs").fetchall()
    objects = Objects(Place.parse(bucket, "objects"))
    objects.put(address, b"something else")
    assert store._blobs.find(large().digest) is None
    objects.remove([address])
    assert store._blobs.find(large().digest) is None
    store.close()


def test_a_bucket_that_is_not_there_refuses_the_write_and_nothing_is_recorded(
    postgres_url: str, bucket: str, env: StillEnv
) -> None:
    store = in_objects(postgres_url, "s3://nobody-made-this", env)
    owner = new_owner(store).id
    with pytest.raises(KitaruBackendError, match="no such bucket") as refused:
        started(store, owner, inputs=large())
    assert refused.value.code == "objects-refused"
    assert "a-secret-key" not in str(refused.value)
    assert store.list_executions(project="demo", limit=10) == []
    store.close()


def test_a_place_is_refused_without_repeating_what_may_be_a_key() -> None:
    for wrong in ("s3://key:secret@bucket", "file:///tmp/x", "s3://", "https://x/y?key=secret", 3):
        with pytest.raises(KitaruUsageError, match="address of a bucket") as refused:
            Place.parse(wrong, "objects")
        assert "secret" not in str(refused.value)


def test_the_folder_of_files_keeps_nothing_for_objects(tmp_path: Path) -> None:
    assert str(Place.parse("s3://bucket/", "objects")) == "s3://bucket"


@flow
def measure(text: str) -> int:
    return len(text)


def test_a_large_input_within_a_transaction_of_the_programs_own_stands_among_the_objects(
    own_store: Path, bucket: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITARU_STORE", postgres_url)
    monkeypatch.setenv("KITARU_PROJECT", "demo")
    monkeypatch.setenv("KITARU_OBJECTS", bucket)
    kept, undone = os.urandom(INLINE_BYTES).hex(), os.urandom(INLINE_BYTES).hex()
    with psycopg.connect(postgres_url) as connection:
        handle = measure.options(connection=connection).enqueue(kept)
    with psycopg.connect(postgres_url) as connection:
        measure.options(connection=connection).enqueue(undone)
        connection.rollback()
        named = connection.execute("select address from kitaru.blobs where data is null").fetchall()
    assert all(address.startswith(bucket) for (address,) in named)

    # What the one that was rolled back has left behind is removed, and nothing else.
    removed = KitaruClient().gc(grace_seconds=0)
    assert removed.blobs == 1
    kitaru.recover()
    assert handle.wait(timeout=120) == len(kept)
