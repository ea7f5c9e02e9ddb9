"""An execution travels as one file: whole, checked, into any store, all or nothing."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from kitaru import transfer
from kitaru._core.lifecycle import CallSource, State
from kitaru._store.protocol import (
    NO_FACTS,
    AlreadyRecorded,
    Answer,
    CodeRow,
    Delete,
    ExecutionRow,
    Facts,
    Finish,
    Import,
    Record,
    Retry,
)
from kitaru._store.reference import ReferenceStore
from kitaru._store.sqlite.store import SqliteStore
from kitaru.errors import KitaruStateError, KitaruUsageError, KitaruValueError
from kitaru.housekeeping import Housekeeper
from kitaru.transfer import read

from .test_housekeeping import ONE, TWO, Mortal, everything, finished, large
from .worlds import (
    AnyStore,
    Died,
    StillEnv,
    call_row,
    failed_call,
    json_payload,
    new_owner,
    opened,
    started,
    wait_row,
)

FAILURE = json_payload('{"type":"ValueError"}')


def keeper(store: AnyStore, seed: int = 3) -> Housekeeper:
    return Housekeeper(store, None, StillEnv(seed))


def elsewhere(project: str = "other") -> ReferenceStore:
    return ReferenceStore(project=project, env=StillEnv(8))


def a_life(store: AnyStore) -> ExecutionRow:
    """A failed execution with something of everything, and a child."""
    row = started(store, new_owner(store).id, "e-1", key="k", keep_seconds=60).row
    code = CodeRow("demo.research", b"code", '{"f":"00"}', '{"demo":"ff"}', "[]")
    facts = everything()._replace(codes=[code], metadata='{"a":1}')
    store.apply(Record(row.id, 1, facts))
    store.apply(Record(row.id, 1, opened(wait_row(TWO))))
    store.apply(Answer(row.id, TWO, large("answer"), "ada", 5))
    failed = [failed_call(b"3" * 16, code=b"code"), failed_call(b"4" * 16)]
    store.apply(Record(row.id, 1, Facts(calls=failed)))
    finished(store, "c-1", everything("c"), parent_exec_id="e-1", parent_call=ONE)
    store.apply(Finish(row.id, 1, None, FAILURE, (b"3" * 16,), "it raised", NO_FACTS, 9))
    found = store.find_execution("e-1")
    assert found is not None
    return found


def all_of(store: AnyStore, exec_id: str) -> dict[str, Any]:
    row = store.find_execution(exec_id)
    assert row is not None
    return {
        "row": row._replace(id=0, home=None, project="", original_exec_id=None),
        "calls": [(c.row, c.reopened, c.reused_from) for c in store.list_calls(row.id, limit=99)],
        "attempts": store.list_attempts(row.id),
        "learnt": store.load_learnt(row.id),
        "notes": [note for note in store.list_notes(row.id) if note.kind != "imported"],
        "waits": [wait._replace(id=0) for wait in store.list_waits(row.id)],
        "intents": store.list_intents(row.id),
        "artifacts": [each.row for each in store.list_artifacts(row.id, limit=9)],
        "children": [child.exec_id for child in store.list_children(exec_id, limit=9)],
    }


def note_of(store: AnyStore, row: ExecutionRow) -> str:
    (note,) = [note for note in store.list_notes(row.id) if note.kind == "imported"]
    return note.message


def test_an_execution_comes_out_of_the_file_as_it_went_in(store: AnyStore, tmp_path: Path) -> None:
    row = a_life(store)
    path = str(tmp_path / "one.kitaru")
    done = keeper(store).export(row, path)
    assert done.exec_ids == ("e-1", "c-1")
    assert done.bytes > 0
    for other in (elsewhere(), sqlite_elsewhere(tmp_path)):
        rows = keeper(other).import_(path, "other")
        assert [one.exec_id for one in rows] == ["e-1", "c-1"]
        assert [one.project for one in rows] == ["other", "other"]
        for exec_id in ("e-1", "c-1"):
            assert all_of(other, exec_id) == all_of(store, exec_id)
        (code,) = other.list_codes(project="other", checkpoint="demo.research", limit=9)
        assert (code.digest, code.parts, code.files) == (b"code", '{"f":"00"}', '{"demo":"ff"}')
        assert other.find_by_key(project="other", flow_id="demo.agent", key="k") == rows[0]
        assert note_of(other, rows[0]) == "imported; it came from project 'demo'"
        again = other.apply(Retry(rows[0].id, rows[0].epoch, 99))
        assert (again.status, again.attempt) == (State.PENDING, 2)
        other.close()


def sqlite_elsewhere(tmp_path: Path) -> SqliteStore:
    (tmp_path / "elsewhere").mkdir(exist_ok=True)
    return SqliteStore.open(str(tmp_path / "elsewhere"), env=StillEnv(8), project="other")


def test_an_import_never_collides_and_shows_the_original_id(
    store: AnyStore, tmp_path: Path
) -> None:
    row = a_life(store)
    path = str(tmp_path / "one.kitaru")
    keeper(store).export(row, path)
    before = all_of(store, "e-1")
    parent, child = keeper(store).import_(path, "demo")
    assert {parent.exec_id, child.exec_id}.isdisjoint({"e-1", "c-1"})
    assert (parent.original_exec_id, child.original_exec_id) == ("e-1", "c-1")
    assert (child.parent_exec_id, parent.key) == (parent.exec_id, None)
    assert "its id was e-1" in note_of(store, parent)
    assert "its key 'k' is taken here" in note_of(store, parent)
    assert all_of(store, "e-1") == before
    assert [call.row.payload for call in store.list_calls(parent.id, limit=1)] == [large("a")]


def test_what_was_deleted_can_come_back_under_its_id(store: AnyStore, tmp_path: Path) -> None:
    row = a_life(store)
    expected = all_of(store, "e-1")
    path = str(tmp_path / "one.kitaru")
    keeper(store).export(row, path)
    store.apply(Delete(row.id, row.epoch, 10))
    back, _ = keeper(store).import_(path, "demo")
    assert back.id > row.id
    assert all_of(store, "e-1") == expected
    assert store.list_unswept(limit=9) == []
    keeper(store).delete(back)
    assert store.find_execution("e-1") is None


def test_a_child_that_travels_alone_is_nobodys_child(store: AnyStore, tmp_path: Path) -> None:
    a_life(store)
    child = store.find_execution("c-1")
    assert child is not None
    path = str(tmp_path / "child.kitaru")
    keeper(store).export(child, path)
    other = elsewhere()
    (row,) = keeper(other).import_(path, "other")
    assert (row.exec_id, row.parent_exec_id, row.parent_call) == ("c-1", None, None)
    assert "it was a child of e-1" in note_of(other, row)


def test_whose_result_was_reused_stays_named(store: AnyStore, tmp_path: Path) -> None:
    source = finished(store, "src", everything())
    number = store.list_calls(source.id, limit=1)[0].id
    reused = call_row(TWO, source=CallSource.REUSED, reused_from=number)
    row = finished(store, "e-2", Facts(calls=[reused]))
    path = str(tmp_path / "two.kitaru")
    keeper(store).export(row, path)
    for other in (elsewhere(), sqlite_elsewhere(tmp_path)):
        for _ in range(2):
            (again, *_) = keeper(other).import_(path, "other")
            (call,) = other.list_calls(again.id, limit=9)
            assert call.reused_from == f"src:{ONE.hex()}"
            assert call.row.reused_from is not None
            assert call.row.reused_from < 0
        other.close()


def test_an_id_that_is_taken_meanwhile_changes_nothing(store: AnyStore, tmp_path: Path) -> None:
    row = a_life(store)
    path = str(tmp_path / "one.kitaru")
    keeper(store).export(row, path)
    with pytest.raises(AlreadyRecorded):
        store.apply(Import(read(path)))
    assert len(store.list_executions(project="demo", limit=9)) == 2


def test_what_is_not_finished_is_not_exported(store: AnyStore, tmp_path: Path) -> None:
    row = started(store, new_owner(store).id, "e-1").row
    with pytest.raises(KitaruStateError, match="only what is finished"):
        keeper(store).export(row, str(tmp_path / "x"))
    assert list(tmp_path.glob("x*")) == []


def test_a_file_that_is_there_is_not_written_over(store: AnyStore, tmp_path: Path) -> None:
    row = finished(store, "e-1")
    (tmp_path / "x").write_text("mine")
    with pytest.raises(KitaruUsageError, match="is there already"):
        keeper(store).export(row, str(tmp_path / "x"))
    assert (tmp_path / "x").read_text() == "mine"


# --- files of anybody --------------------------------------------------------------------------


def rewritten(path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """The same archive with members changed; None leaves one out."""
    out = path.with_name(path.name + "x")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            data = change(info.filename, old.read(info))
            if data is not None:
                new.writestr(info.filename, data)
    return out


def in_rows(old: bytes, new: bytes) -> Callable[[str, bytes], bytes]:
    return lambda name, data: data.replace(old, new) if name == "rows.jsonl" else data


def in_manifest(**changes: Any) -> Callable[[str, bytes], bytes]:
    def change(name: str, data: bytes) -> bytes:
        if name != "manifest.json":
            return data
        return json.dumps({**json.loads(data), **changes}).encode()

    return change


def without(member: str) -> Callable[[str, bytes], bytes | None]:
    return lambda name, data: None if name.startswith(member) else data


DAMAGES: dict[str, Callable[[str, bytes], bytes | None]] = {
    "a changed record": in_rows(b'"drift"', b'"draft"'),
    "no records": without("rows"),
    "no manifest": without("manifest"),
    "a value lost": without("values"),
    "a value changed": lambda n, d: d[:-9] + bytes(9) if n.startswith("values") else d,
    "of another program": in_manifest(format="other"),
    "of a later format": in_manifest(version=2),
    "other executions": in_manifest(exec_ids=["e-9"]),
    "records of nothing": lambda n, d: b"[1]\n" if n == "rows.jsonl" else d,
    "no JSON": lambda n, d: b"{" if n == "rows.jsonl" else d,
    "a manifest of another kind": lambda n, d: b"[]" if n == "manifest.json" else d,
}


@pytest.mark.parametrize("name", sorted(DAMAGES))
def test_a_file_that_is_not_whole_is_refused_and_changes_nothing(
    sqlite_store: SqliteStore, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "one.kitaru"
    keeper(sqlite_store).export(a_life(sqlite_store), str(path))
    bad = rewritten(path, DAMAGES[name])
    other = elsewhere()
    with pytest.raises(KitaruValueError, match="export is not what it should be"):
        keeper(other).import_(str(bad), "other")
    assert other.list_executions(project="other", limit=9) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_value_that_is_packed_twice_is_refused_before_it_is_unpacked(
    sqlite_store: SqliteStore, tmp_path: Path, method: int
) -> None:
    path = tmp_path / "one.kitaru"
    keeper(sqlite_store).export(a_life(sqlite_store), str(path))
    out = tmp_path / "bomb.kitaru"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            packed = method if info.filename.startswith("values/") else zipfile.ZIP_STORED
            new.writestr(info.filename, old.read(info), packed)
    with pytest.raises(KitaruValueError, match="not packed as an export packs it"):
        read(str(out))


LIES: dict[str, tuple[bytes, bytes]] = {
    "a state": (b'"status": "failed"', b'"status": "running"'),
    "an unknown state": (b'"status": "failed"', b'"status": "odd"'),
    "an open wait": (b'"state": "answered"', b'"state": "open"'),
    "a type": (b'"created_at": 1000', b'"created_at": "1000"'),
    "a number of the database's": (b'"created_at": 1000', b'"created_at": 18446744073709551616'),
    "a field more": (b'"created_at": 1000', b'"created_at": 1000, "more": 1'),
    "a field less": (b'"created_at": 1000, ', b""),
    "an id": (b'"exec_id": "e-1"', b'"exec_id": "../../x"'),
    "no JSON within": (b'"spec": "{}"', b'"spec": "{"'),
    "a list within": (b'"spec": "{}"', b'"spec": "[]"'),
    "a value": (b'"data": "', b'"data": "AAAA'),
    "a kind": (b'{"note":', b'{"nota":'),
}


@pytest.mark.parametrize("name", sorted(LIES))
def test_a_record_that_lies_is_refused_though_its_checksum_is_right(
    sqlite_store: SqliteStore, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "one.kitaru"
    keeper(sqlite_store).export(a_life(sqlite_store), str(path))
    with zipfile.ZipFile(path) as archive:
        rows = archive.read("rows.jsonl")
    old, new = LIES[name]
    assert old in rows
    digest = blake2b(rows.replace(old, new), digest_size=32).hexdigest()
    bad = rewritten(rewritten(path, in_rows(old, new)), in_manifest(rows_blake2b=digest))
    with pytest.raises(KitaruValueError, match="export is not what it should be"):
        read(str(bad))


def test_records_that_are_packed_in_another_way_and_broken_are_refused(
    sqlite_store: SqliteStore, tmp_path: Path
) -> None:
    path = tmp_path / "one.kitaru"
    keeper(sqlite_store).export(a_life(sqlite_store), str(path))
    out = tmp_path / "broken.kitaru"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info), zipfile.ZIP_LZMA)
        place = new.getinfo("rows.jsonl").header_offset
    whole = bytearray(out.read_bytes())
    start = place + 30 + len("rows.jsonl") + 20
    whole[start : start + 200] = bytes([255]) * 200
    out.write_bytes(whole)
    with pytest.raises(KitaruValueError, match="export is not what it should be"):
        read(str(out))


def test_a_record_without_end_is_not_read_into_memory(
    sqlite_store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.kitaru"
    keeper(sqlite_store).export(a_life(sqlite_store), str(path))
    monkeypatch.setattr(transfer, "MAX_LINE_BYTES", 2_000)
    long = rewritten(path, lambda n, d: b'{"note":' + b" " * 9_000 if n == "rows.jsonl" else d)
    with pytest.raises(KitaruValueError, match="records is too long"):
        read(str(long))


def test_an_export_from_before_a_field_existed_is_read_with_its_default(
    sqlite_store: SqliteStore, tmp_path: Path
) -> None:
    path = tmp_path / "one.kitaru"
    keeper(sqlite_store).export(a_life(sqlite_store), str(path))
    with zipfile.ZipFile(path) as archive:
        lines = [json.loads(line) for line in archive.read("rows.jsonl").splitlines()]
    assert any("code" in line for line in lines)
    for line in lines:
        line.get("code", {}).pop("unseen", None)
    rows = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    older = rewritten(
        rewritten(path, lambda n, d: rows if n == "rows.jsonl" else d),
        in_manifest(rows_blake2b=blake2b(rows, digest_size=32).hexdigest()),
    )
    codes = [code for bundle in read(str(older)) for code in bundle.codes]
    assert codes
    assert all(code.unseen is None for code in codes)


@pytest.mark.parametrize("data", [b"", b"not an archive", b"PK\x03\x04" + bytes(99)])
def test_any_other_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(KitaruValueError):
        read(str(tmp_path / "x"))
    with pytest.raises(KitaruUsageError, match="there is no file"):
        read(str(tmp_path / "y"))


def test_a_damaged_value_is_not_exported_as_if_it_were_one(
    sqlite_store: SqliteStore, tmp_path: Path
) -> None:
    row = finished(sqlite_store, "e-1", everything())
    Path(sqlite_store._blobs.path(large("a").digest)).write_bytes(b"x")
    with pytest.raises(KitaruValueError):
        keeper(sqlite_store).export(row, str(tmp_path / "x.kitaru"))
    assert list(tmp_path.glob("x.kitaru*")) == []


# --- killed anywhere ---------------------------------------------------------------------------


def test_an_import_that_is_killed_anywhere_has_imported_all_or_nothing(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    source = SqliteStore.open(str(tmp_path / "from"), env=StillEnv(), project="demo")
    path = str(tmp_path / "one.kitaru")
    keeper(source).export(a_life(source), path)
    for number in range(1, 999):
        folder = tmp_path / f"to-{number}"
        folder.mkdir()
        mortal = Mortal()
        store = SqliteStore.open(str(folder), env=mortal, project="demo")
        mortal.left = number
        try:
            Housekeeper(store, None, mortal).import_(path, "demo")
            mortal.left = 1 << 60
            break
        except Died as died:
            where = str(died)
        again = SqliteStore.open(str(folder), env=StillEnv(4), project="demo")
        there = again.list_executions(project="demo", limit=9)
        assert len(there) == (2 if where == "after_commit:Import" else 0)
        rows = keeper(again).import_(path, "demo")
        assert len(rows) == 2
        assert [c.row for c in again.list_calls(rows[0].id, limit=9)] == [
            c.row for c in source.list_calls(1, limit=9)
        ]
        assert again.list_stray_blobs(before=1 << 62) == []
        again.close()
    assert number > 15
    source.close()
