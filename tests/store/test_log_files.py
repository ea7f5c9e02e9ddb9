"""The files of logs: bounded, read on from any place, and readable whatever happened to them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kitaru import KitaruLogRetrievalError
from kitaru._store import logfiles
from kitaru._store.logfiles import LogFiles
from kitaru._store.logs import RUNNER, STDOUT, Chunk

ID = "01a21528-7b55-76ab-9ef2-cce941e0f2c2"
LATER = "01a21528-7b55-76ab-9ef2-ffffffffffff"


def files(folder: Path, *, max_bytes: int = 1 << 20, max_folder_bytes: int = 1 << 30) -> LogFiles:
    return LogFiles(str(folder), max_bytes=max_bytes, max_folder_bytes=max_folder_bytes)


def line(text: str, at: int = 1_000_000) -> Chunk:
    return Chunk(at, STDOUT, text, "m.ck", "ab12", 2, [0, 5], module="m")


def read_all(logs: LogFiles, exec_id: str = ID, after: str | None = None) -> list[Chunk]:
    found, more = [], True
    while more:
        chunks, after, more = logs.read(exec_id, after)
        found += chunks
    return found


def texts(logs: LogFiles, exec_id: str = ID) -> list[str]:
    return [chunk.text for chunk in read_all(logs, exec_id)]


def test_what_is_appended_is_read_back_equal_and_private(tmp_path: Path) -> None:
    logs = files(tmp_path)
    chunks = [line("a"), Chunk(2, "logging", "b\nc", level="INFO", logger="l", lineno=3)]
    logs.append(ID, 1, chunks)
    assert read_all(files(tmp_path)) == chunks
    (path,) = (tmp_path / "logs").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_was_never_logged_reads_as_nothing(tmp_path: Path) -> None:
    assert files(tmp_path).read(ID) == ([], None, False)


def test_a_reader_goes_on_where_it_stood_over_files_and_lives(tmp_path: Path) -> None:
    logs = files(tmp_path, max_bytes=64 * 1024)
    place, seen = None, []
    for life in (1, 2, 4):
        for number in range(30):
            logs.append(ID, life, [line(f"{life}/{number} " + "x" * 500)])
            page = logs.read(ID, place)
            seen += [chunk.text.split()[0] for chunk in page.chunks]
            place = page.next
    seen += [chunk.text.split()[0] for chunk in read_all(logs, after=place)]
    assert seen == [f"{life}/{number}" for life in (1, 2, 4) for number in range(30)]


def test_the_log_of_one_execution_is_bounded_and_says_what_it_lost(tmp_path: Path) -> None:
    logs = files(tmp_path, max_bytes=64 * 1024)
    sent = 0
    for number in range(1_000):
        logs.append(ID, 1, [line(f"{number} " + "x" * 400)])
        sent += 1
    size = sum(path.stat().st_size for path in (tmp_path / "logs").iterdir())
    assert 40 * 1024 < size <= 64 * 1024
    note, *kept = read_all(logs)
    assert note.source == RUNNER
    dropped = int(note.text.split()[0].replace(",", ""))
    assert dropped > 1_000 * 400 - 64 * 1024
    numbers = [int(chunk.text.split()[0]) for chunk in kept]
    assert numbers == list(range(numbers[0], sent))


def test_a_later_life_counts_what_the_earlier_ones_left(tmp_path: Path) -> None:
    for life in range(1, 40):
        logs = files(tmp_path, max_bytes=64 * 1024)
        logs.append(ID, life, [line(f"{life} " + "x" * 5_000)])
    size = sum(path.stat().st_size for path in (tmp_path / "logs").iterdir())
    assert size <= 64 * 1024 + 6_000
    note, *kept = read_all(files(tmp_path))
    assert note.source == RUNNER
    assert "bytes of the log were dropped here" in note.text
    assert kept[-1].text.startswith("39 ")


def test_a_chunk_that_is_larger_than_a_file_is_kept_whole(tmp_path: Path) -> None:
    logs = files(tmp_path, max_bytes=64 * 1024)
    logs.append(ID, 1, [line("a"), line("y" * 30_000), line("b")])
    assert [text[0] for text in texts(logs)] == ["a", "y", "b"]


def test_a_torn_line_is_left_out_and_what_follows_is_read(tmp_path: Path) -> None:
    logs = files(tmp_path)
    logs.append(ID, 1, [line("whole")])
    (path,) = (tmp_path / "logs").iterdir()
    with path.open("ab") as file:
        file.write(b'{"at":5,"source":"stdout","te')
    assert texts(logs) == ["whole"]
    files(tmp_path).append(ID, 2, [line("of the next life")])
    assert texts(logs) == ["whole", "of the next life"]


def test_an_unfinished_line_is_read_once_it_is_finished(tmp_path: Path) -> None:
    logs = files(tmp_path)
    logs.append(ID, 1, [line("whole")])
    (path,) = (tmp_path / "logs").iterdir()
    data = path.read_bytes()
    path.write_bytes(data[:-4])
    page = logs.read(ID)
    assert page.chunks == []
    path.write_bytes(data)
    assert [chunk.text for chunk in logs.read(ID, page.next).chunks] == ["whole"]


def test_after_a_disk_took_a_part_the_next_line_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = files(tmp_path)
    logs.append(ID, 1, [line("whole")])
    real_write = os.write
    written: list[int] = []

    def nearly_full(file: int, data: bytes) -> int:
        if written:
            raise OSError(28, "No space left on device")
        written.append(real_write(file, data[:10]))
        return written[0]

    monkeypatch.setattr(logfiles.os, "write", nearly_full)
    with pytest.raises(OSError, match="No space left"):
        logs.append(ID, 1, [line("lost")])
    monkeypatch.undo()
    logs.append(ID, 1, [line("kept")])
    assert texts(logs) == ["whole", "a line of this log is damaged: left out", "kept"]


@pytest.mark.parametrize(
    "damage",
    [
        b"not json\n",
        b"[1, 2]\n",
        b"{}\x00\n",
        b'{"at": "soon", "text": "x"}\n',
        b'{"at": 9999999999999999999999, "text": "x", "source": "stdout"}\n',
        b'{"at": 1, "text": "x", "offsets": ["a"]}\n',
        b'{"at": 1, "text": "x", "offsets": [1e999]}\n',
        b'{"at": 1, "text": 7}\n',
        b"[" * 100_000 + b"\n",
        b"\xff\xfe\n",
    ],
)
def test_a_damaged_line_is_told_and_hides_no_other(tmp_path: Path, damage: bytes) -> None:
    logs = files(tmp_path)
    logs.append(ID, 1, [line("before")])
    (path,) = (tmp_path / "logs").iterdir()
    with path.open("ab") as file:
        file.write(damage)
    logs.append(ID, 1, [line("after")])
    assert texts(logs) == ["before", "a line of this log is damaged: left out", "after"]


def test_a_file_without_an_end_of_line_ends_nobodys_reading(tmp_path: Path) -> None:
    logs = files(tmp_path)
    logs.append(ID, 1, [line("before")])
    (path,) = (tmp_path / "logs").iterdir()
    with path.open("ab") as file:
        file.write(b"x" * 3_000_000 + b"\n")
    logs.append(ID, 1, [line("after")])
    found = texts(logs)
    assert (found[0], found[-1]) == ("before", "after")


def test_logs_of_all_executions_are_bounded_and_say_that_they_are_gone(tmp_path: Path) -> None:
    logs = files(tmp_path, max_folder_bytes=64 * 1024)
    for number in range(20):
        exec_id = f"01a21528-7b55-76ab-9ef2-{number:012x}"
        logs.append(exec_id, 1, [line("x" * 8_000)])
        path = tmp_path / "logs" / f"{exec_id}.1-0.jsonl"
        os.utime(path, ns=(number * 10**9, number * 10**9))
        logs.close(exec_id)
        logs.tidy()
    left = [path for path in (tmp_path / "logs").iterdir() if path.suffix == ".jsonl"]
    assert sum(path.stat().st_size for path in left) <= 64 * 1024 + 9_000
    assert texts(logs, f"01a21528-7b55-76ab-9ef2-{19:012x}") == ["x" * 8_000]
    (note,) = read_all(logs, f"01a21528-7b55-76ab-9ef2-{0:012x}")
    assert "it was removed" in note.text
    assert read_all(logs, LATER) == []


def test_a_file_that_was_tidied_away_under_its_writer_is_begun_anew(tmp_path: Path) -> None:
    logs = files(tmp_path)
    logs.append(ID, 1, [line("first")])
    (path,) = (tmp_path / "logs").iterdir()
    path.unlink()
    logs.append(ID, 1, [line("second")])
    note, second = read_all(logs)
    assert (note.source, second.text) == (RUNNER, "second")


def test_deleting_takes_all_files_of_one_execution_and_of_no_other(tmp_path: Path) -> None:
    logs = files(tmp_path)
    for exec_id in (ID, LATER):
        for life in (1, 3):
            logs.append(exec_id, life, [line("x")])
    logs.delete(ID)
    logs.delete(ID)
    assert read_all(logs, ID) == []
    assert len(read_all(logs, LATER)) == 2


def test_a_folder_that_cannot_be_read_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    with pytest.raises(KitaruLogRetrievalError, match="cannot be read") as caught:
        files(tmp_path).read(ID)
    assert caught.value.code == "log-unreadable"


def test_a_link_in_the_place_of_a_log_is_neither_followed_nor_written(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / f"{ID}.2-0.jsonl").symlink_to(elsewhere)
    logs = files(tmp_path)
    with pytest.raises(KitaruLogRetrievalError):
        logs.read(ID)
    logs.append(ID, 2, [line("beside it")])
    assert elsewhere.read_text() == "mine"


def test_no_name_of_an_execution_leaves_the_folder(tmp_path: Path) -> None:
    for name in ("../x", "a/b", "", ".", "x" * 200):
        with pytest.raises(ValueError, match="no part of a file's name"):
            files(tmp_path).append(name, 1, [line("x")])
        assert files(tmp_path).read(name).chunks == []
