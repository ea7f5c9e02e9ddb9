"""Stores that were damaged, cut, zeroed, replaced, locked, filled, copied, or made by an enemy.

Whatever became of it: an error of ours that says what is wrong and what to do, or a store that
works. Never a wrong value, never a hang, and never less in the folder than was there.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruBackendError, KitaruClient, KitaruError, KitaruValueError, checkpoint, flow
from kitaru._store.sqlite import database as sqlite_database
from kitaru.cli.entry import perform
from kitaru.testing import isolated_store

from .damage import BLOBS, REFUSED, USABLE, database, sql
from .doors import PATIENCE_SECONDS
from .programs import Program, alone

pytestmark = pytest.mark.timeout(600)

LARGE = [f"{number:05}" for number in range(20_000)]
RESULT = [{"small": (1, 2.5)}, LARGE]


@checkpoint(cache=False)
def small(x: int) -> dict[str, Any]:
    return {"small": (x, 2.5)}


@checkpoint(cache=False)
def large(x: int) -> list[str]:
    return LARGE


@flow
def agent(x: int) -> list[Any]:
    return [small(x), large(x)]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one completed execution, closed."""
    folder = tmp_path_factory.mktemp("good") / "store"
    with isolated_store(folder):
        assert agent.options(key="k").run(1).wait() == RESULT
    return folder


@pytest.fixture
def store(good: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    shutil.copytree(good, folder)
    return folder


def visit(folder: Path) -> tuple[list[KitaruError], list[Any]]:
    """(errors, results) of all that one does with a store: look, go on, run anew."""
    errors: list[KitaruError] = []
    results: list[Any] = []
    with isolated_store(folder):
        for key in ("k", "another"):
            try:
                results.append(agent.options(key=key).run(1).wait(timeout=PATIENCE_SECONDS))
            except KitaruError as error:
                errors.append(error)
        try:
            client = KitaruClient()
            for execution in client.executions.list():
                results.append(execution.result() if execution.status.is_successful else RESULT)
                for call in client.executions.list_checkpoints(execution.exec_id):
                    results.append(
                        [{"small": (1, 2.5)}, call.result()] if call.name == "large" else RESULT
                    )
        except KitaruError as error:
            errors.append(error)
    return errors, results


def check_message(error: KitaruError) -> None:
    message = str(error)
    assert ": " in message or ". " in message, "what is wrong, and what to do"
    assert len(message) < 1500
    assert "please report" not in message


@pytest.mark.parametrize("name", USABLE)
def test_what_is_recorded_survives(name: str, store: Path) -> None:
    USABLE[name](store)
    errors, results = visit(store)
    assert errors == []
    assert results == [RESULT] * len(results)
    assert len(results) == 8
    assert store.stat().st_mode & 0o777 == 0o700
    if (store / "thesis.txt").exists():
        assert (store / "thesis.txt").read_bytes() == b"mine"


@pytest.mark.parametrize("name", REFUSED)
def test_a_damaged_store_is_refused_and_left_as_it_is(
    name: str, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    REFUSED[name](store)
    path = database(store)
    before = path.read_bytes() if path.is_file() and "log" not in name else None
    errors, results = visit(store)
    assert len(errors) >= 2
    assert all(result == RESULT for result in results), "never a wrong value"
    for error in errors:
        check_message(error)
    if before is not None:
        assert path.read_bytes() == before
    with isolated_store(store):
        capsys.readouterr()
        if "owners" not in name:
            assert perform(["executions", "list"]) in (1, 2)
            said = capsys.readouterr()
            assert said.out == ""
            assert "Traceback" not in said.err


@pytest.mark.parametrize("name", BLOBS)
def test_a_large_value_that_was_damaged_is_never_taken_for_another(name: str, store: Path) -> None:
    BLOBS[name](store)
    errors, results = visit(store)
    assert errors, "somebody read what is not there"
    for error in errors:
        assert isinstance(
            error, (KitaruValueError, KitaruBackendError, kitaru.KitaruExecutionError)
        )
        check_message(error)
    assert all(result == RESULT for result in results)


def flipped(folder: Path, seed: int) -> Iterator[tuple[int, int]]:
    """(byte, bit) of one bit in every page of the database, chosen by the seed."""
    page = sqlite_database.PAGE_BYTES
    choose = random.Random(seed)
    for start in range(0, database(folder).stat().st_size, page):
        yield start + choose.randrange(page), choose.randrange(8)


def flip(folder: Path, at: int, bit: int) -> None:
    data = bytearray(database(folder).read_bytes())
    data[at] ^= 1 << bit
    database(folder).write_bytes(data)


def check_one_bit(good: Path, folder: Path, at: int, bit: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)
    flip(folder, at, bit)
    errors, results = visit(folder)
    for error in errors:
        assert len(str(error)) < 2000
    wrong = [result for result in results if result != RESULT]
    assert wrong == [], f"bit {bit} of byte {at}: a wrong value"


def test_one_bit_in_every_page_is_an_error_or_changes_no_value(good: Path, tmp_path: Path) -> None:
    for at, bit in list(flipped(good, seed=1))[:40]:
        check_one_bit(good, tmp_path / "store", at, bit)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(2, 2 + int(os.environ.get("HOSTILE_SEEDS", "6"))))
def test_more_bits_in_every_page(good: Path, tmp_path: Path, seed: int) -> None:
    """More of them: HOSTILE_SEEDS=100 pytest -m slow tests/hostile/test_store.py."""
    for at, bit in flipped(good, seed):
        check_one_bit(good, tmp_path / "store", at, bit)


# --- places ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["missing", "deep", "empty", "a link", "odd"])
def test_a_place_that_can_hold_a_store_gets_one(name: str, tmp_path: Path) -> None:
    folder = {
        "deep": tmp_path / "a" / "b" / "c",
        "odd": tmp_path / "it's; -- \n 100% ünïcödé \u202e",
    }.get(name, tmp_path / "store")
    if name == "empty":
        folder.mkdir()
    if name == "a link":
        (tmp_path / "real").mkdir()
        folder.symlink_to(tmp_path / "real")
    for _ in range(2):
        with isolated_store(folder):
            assert agent.options(key="k").run(1).wait() == RESULT
    assert database(folder).exists()


@pytest.mark.parametrize(
    "name", ["a file", "a link to nothing", "a loop", "other things", "below a file"]
)
def test_a_place_that_cannot_is_refused_and_left_alone(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    if name == "a file":
        folder.write_text("mine")
    elif name == "a link to nothing":
        folder.symlink_to(tmp_path / "nowhere")
    elif name == "a loop":
        folder.symlink_to(folder)
    elif name == "other things":
        folder.mkdir()
        (folder / "thesis.txt").write_text("mine")
    else:
        folder.write_text("mine")
        folder = folder / "below"
    before = sorted(path.name for path in tmp_path.rglob("*"))
    errors, results = visit(folder)
    assert len(errors) == 3
    assert results == []
    for error in errors:
        check_message(error)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "store", ["mysql://x/y", "postgresql://me:s3cret@db/x", "s3://bucket", "\0", " "]
)
def test_a_place_that_is_no_folder_is_refused_without_its_password(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KitaruError) as caught, isolated_store(store):
        agent.run(1)
    assert "s3cret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_copy_of_a_store_goes_on_where_the_original_was(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(store, copy)
    for folder in (store, copy):
        with isolated_store(folder):
            assert agent.options(key="k").run(1).wait() == RESULT
            assert len(KitaruClient().executions.list()) == 1


# --- locked, full, read-only ---------------------------------------------------------------------


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("begin immediate")
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_store_that_stays_locked_is_an_error_and_then_works(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a minute of patience, shortened; the lock is another process's, as it would be."""
    monkeypatch.setattr(sqlite_database, "BUSY_MS", 200)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HOLD,
            str(database(store)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    with isolated_store(store):
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(KitaruBackendError, match="write lock") as caught:
            agent.options(key="locked").run(1).wait(timeout=PATIENCE_SECONDS)
        assert caught.value.code in ("store-locked", "recording-stopped")
        assert len(KitaruClient().executions.list()) == 1, "reading goes on"
        holder.communicate("", timeout=PATIENCE_SECONDS)
        assert agent.options(key="locked").run(1).wait(timeout=PATIENCE_SECONDS) == RESULT


FULL = """
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
return os.urandom(2_000_000)"""


def test_a_disk_that_is_full_loses_nothing_that_was_there(tmp_path: Path) -> None:
    program = Program(tmp_path, alone(FULL))
    done = program.run()
    assert done.returncode == 1
    assert "KitaruBackendError" in done.stderr
    program.calm()
    again = program.run()
    assert (again.returncode, again.stdout) == (0, '["before", "calm", "after"]\n'), again.stderr
    assert program.journal().count("before") == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@checkpoint(cache=False)
def noise(number: int) -> bytes:
    return random.Random(number).randbytes(300_000)


@flow
def fills() -> int:
    return sum(len(noise(number)) for number in range(20))


def test_a_small_file_system_that_fills_up_keeps_what_it_holds(small_disk: Path) -> None:
    folder = small_disk / "store"
    with isolated_store(folder), pytest.raises(KitaruError) as caught:
        fills.options(key="k").run().wait(timeout=PATIENCE_SECONDS)
    check_message(caught.value)
    for blob in (folder / "blobs").rglob("*"):
        if blob.is_file():
            blob.chmod(0o600)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    with isolated_store(folder):
        assert fills.options(key="k").run().wait(timeout=PATIENCE_SECONDS) == 20 * 300_000
        (execution,) = KitaruClient().executions.list()
        assert len(execution.list_checkpoints()) == 20


def test_a_read_only_file_system_is_an_error_and_can_be_read(small_disk: Path, good: Path) -> None:
    folder = small_disk / "store"
    shutil.copytree(good, folder)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    errors, results = visit(folder)
    assert len(errors) >= 2
    for error in errors:
        check_message(error)
    assert all(result == RESULT for result in results)


# --- rows of somebody else -----------------------------------------------------------------------


def rewrite_result(folder: Path, text: bytes, *, sealed: bool) -> None:
    """The outcome of `small` becomes this text; ``sealed``: with the checksum that it needs."""
    with closing(sqlite3.connect(database(folder))) as connection:
        checksum = blake2b(text, digest_size=32).digest()
        (old,) = connection.execute(
            "select checksum from calls where checkpoint like '%small'"
        ).fetchone()
        assert len(old) == len(checksum), "the format has changed: change this test"
        connection.execute(
            "update calls set data = ?, checksum = ? where checkpoint like '%small'",
            (text, checksum if sealed else old),
        )
        connection.commit()


HOSTILE_ROWS: dict[str, bytes] = {
    "a class that runs code": b'{"$kitaru":"dataclass","of":"os:system","shape":"","v":{"x":1}}',
    "a class to import": b'{"$kitaru":"dataclass","of":"antigravity:X","shape":"","v":{}}',
    "a pickle": b'{"$kitaru":"pickle","v":"gASVHQAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOU"}',
    "an unknown tag": b'{"$kitaru":"exec","v":"1"}',
    "a tag that is no text": b'{"$kitaru":["tuple"],"v":[]}',
    "a tag without a value": b'{"$kitaru":"tuple"}',
    "another value": b'{"$kitaru":"decimal","v":[1]}',
    "an enormous range": b'{"$kitaru":"range","v":"x"}',
    "no JSON": b"{",
    "nothing": b"",
    "no UTF-8": b'"\xff\xfe"',
    "two values": b"1 2",
    "NaN": b"NaN",
    "a million brackets": b"[" * 1_000_000,
    "an int of a million digits": b"1" * 1_000_000,
}


@pytest.mark.parametrize("name", HOSTILE_ROWS)
def test_a_row_of_an_enemy_runs_nothing_and_imports_nothing(name: str, store: Path) -> None:
    rewrite_result(store, HOSTILE_ROWS[name], sealed=True)
    modules = set(sys.modules)
    with isolated_store(store):
        (execution,) = KitaruClient().executions.list()
        first = execution.list_checkpoints()[0]
        with pytest.raises(KitaruValueError) as caught:
            first.result()
    assert "antigravity" not in set(sys.modules) - modules
    check_message(caught.value)


def test_a_row_that_was_changed_without_its_checksum_is_never_believed(store: Path) -> None:
    rewrite_result(store, b'{"small":1}', sealed=False)
    with isolated_store(store):
        (execution,) = KitaruClient().executions.list()
        with pytest.raises(KitaruValueError, match="corrupt"):
            execution.list_checkpoints()[0].result()


ESCAPES = "\x1b]0;owned\x07\x1b[2J\n\u202e"


def test_names_in_rows_of_an_enemy_do_not_reach_the_terminal(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quoted = ESCAPES.replace("'", "''")
    sql(
        store,
        f"update executions set flow_name = 'f{quoted}', key = 'k{quoted}'",
        f"update executions set status_reason = '{quoted}'",
        f"update calls set checkpoint = 'c{quoted}', reason = '{quoted}'",
        "insert into notes (execution, kind, message, at) "
        f"select id, '{quoted}', '{quoted}', 9000000000000000000 from executions",
    )
    with isolated_store(store):
        (execution,) = KitaruClient().executions.list()
        for words in (
            ["executions", "list"],
            ["executions", "get", execution.exec_id],
            ["executions", "why", execution.exec_id],
            ["status"],
        ):
            perform(words)
            said = capsys.readouterr()
            assert "Traceback" not in said.err
            for text in (said.out, said.err):
                assert not set("\x1b\x07\u202e") & set(text), words
