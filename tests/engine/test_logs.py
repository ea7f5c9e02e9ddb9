"""What flows and checkpoints print and log: kept by call, and printed as if nobody listened."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, LogEntry, checkpoint, flow
from kitaru import app as kitaru_app
from kitaru._store.logs import MAX_LINE_CHARACTERS, Chunk

log = logging.getLogger("tests.of.logs")


def logged(handle: Any, **options: Any) -> list[LogEntry]:
    return KitaruClient().executions.logs(handle.exec_id, **options)


def told(handle: Any, **options: Any) -> list[tuple[str | None, str, str]]:
    return [(e.checkpoint_name, e.source, e.message) for e in logged(handle, **options)]


def messages(handle: Any, **options: Any) -> list[str]:
    return [entry.message for entry in logged(handle, **options)]


@checkpoint(cache=False)
def speak(name: str) -> str:
    print("hello", name)
    print("careful,", name, file=sys.stderr)
    log.warning("the record of %s", name)
    return name


@flow
def conversation() -> list[str]:
    print("the flow itself")
    return [speak("ann"), speak("bob")]


def test_what_is_printed_and_logged_is_kept_with_the_call_that_said_it() -> None:
    handle = conversation.run()
    handle.wait()
    said = [
        (name, source, text)
        for person in ("ann", "bob")
        for name, source, text in (
            ("speak", "stdout", f"hello {person}"),
            ("speak", "stderr", f"careful, {person}"),
            ("speak", "logging", f"the record of {person}"),
        )
    ]
    assert told(handle) == [(None, "stdout", "the flow itself"), *said]
    calls = KitaruClient().executions.list_checkpoints(handle.exec_id)
    assert [e.call_id for e in logged(handle)[1::3]] == [call.call_id for call in calls]
    record = logged(handle, source="logging")[0]
    assert (record.level, record.logger) == ("WARNING", log.name)
    assert (record.module, record.filename) == ("test_logs", "test_logs.py")
    assert record.lineno == speak.func.__code__.co_firstlineno + 4


def test_it_is_printed_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    conversation.run().wait()
    assert (sys.stdout, sys.stderr) == before
    printed = capsys.readouterr()
    assert printed.out == "the flow itself\nhello ann\nhello bob\n"
    assert "careful, ann\ncareful, bob\n" in printed.err


def test_what_was_asked_for_is_found_by_checkpoint_call_source_and_limit() -> None:
    handle = conversation.run()
    handle.wait()
    second = KitaruClient().executions.list_checkpoints(handle.exec_id)[1].call_id
    assert len(logged(handle, checkpoint="speak")) == 6
    assert messages(handle, checkpoint=second, source="stdout") == ["hello bob"]
    assert messages(handle, source="stderr") == ["careful, ann", "careful, bob"]
    assert messages(handle, limit=1) == ["the record of bob"]
    assert messages(handle, source="runner") == []
    with pytest.raises(kitaru.KitaruNotFoundError, match="no recorded call of a checkpoint 'spek'"):
        logged(handle, checkpoint="spek")
    for wrong in ({"source": "steps"}, {"limit": 0}, {"checkpoint": 7}):
        with pytest.raises(kitaru.KitaruUsageError, match=next(iter(wrong))):
            logged(handle, **wrong)


@checkpoint(cache=False)
def write(*pieces: str) -> None:
    for piece in pieces:
        sys.stdout.write(piece)


@flow
def writing(pieces: list[str]) -> None:
    write(*pieces)


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        (["a", "b\n", "c"], ["ab", "c"]),
        (["one\ntwo\n", "three\n"], ["one", "two", "three"]),
        (["\n\n"], ["", ""]),
        (["10 %\r", "20 %\r", "100 %\n"], ["100 %"]),
        (["dos\r\n", "line\r\n"], ["dos", "line"]),
        (["half \r", "a bar"], ["a bar"]),
        (["nul \0, escape \x1b[31m, bell \a\n"], ["nul \0, escape \x1b[31m, bell \a"]),
        (["größe 日本 \u2028\n"], ["größe 日本 \u2028"]),
        (["x" * 500] * 3 + ["\n"], ["x" * 1500]),
    ],
)
def test_pieces_become_the_lines_that_a_person_would_read(
    pieces: list[str], lines: list[str]
) -> None:
    handle = writing.run(pieces)
    handle.wait()
    assert messages(handle) == lines


def test_a_very_long_line_is_cut_and_says_so() -> None:
    handle = writing.run(["short\n", "y" * (MAX_LINE_CHARACTERS + 7), "\n", "z" * 100_000])
    handle.wait()
    short, long, endless = messages(handle)
    assert short == "short"
    assert long == "y" * MAX_LINE_CHARACTERS + "… (7 more characters)"
    assert endless.endswith(f"… ({100_000 - MAX_LINE_CHARACTERS:,} more characters)")


def test_what_cannot_be_encoded_for_the_terminal_is_kept_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    handle = writing.run(["a lone \\ud800 surrogate: "])
    handle.wait()

    @flow
    def surrogates() -> None:
        print("\ud800 alone")

    handle = surrogates.run()
    handle.wait()
    assert messages(handle) == ["\ud800 alone"]


# --- where it stands ----------------------------------------------------------------------------


@checkpoint(cache=False)
async def count(name: str) -> None:
    for number in range(3):
        print(name, end=" ")
        await asyncio.sleep(0)
        print(number)


@flow
async def side_by_side() -> None:
    await asyncio.gather(count("a"), count("b"), count("c"))


def test_pieces_of_concurrent_calls_do_not_mix() -> None:
    handle = side_by_side.run()
    handle.wait()
    of_calls: dict[str | None, list[str]] = {}
    for entry in logged(handle):
        of_calls.setdefault(entry.call_id, []).append(entry.message)
    assert sorted(of_calls.values()) == [[f"{name} {n}" for n in range(3)] for name in "abc"]


@checkpoint(cache=False)
def in_threads() -> None:
    bare = threading.Thread(target=print, args=("from a thread without the context",))
    bare.start()
    bare.join()
    asyncio.run(asyncio.to_thread(print, "from a thread with it"))


@flow
def threads() -> None:
    in_threads()


def test_a_thread_that_carries_no_context_is_not_heard() -> None:
    handle = threads.run()
    handle.wait()
    assert told(handle) == [("in_threads", "stdout", "from a thread with it")]


@checkpoint(cache=False, retries=kitaru.Retry(max_attempts=3, initial_seconds=0))
def third_time() -> int:
    attempt = kitaru.current().attempt
    print("try", attempt)
    if attempt < 3:
        raise OSError("not yet")
    return attempt


@flow(retries=1)
def tries() -> int:
    print("life of the flow")
    third_time()
    if kitaru.current().attempt == 1:
        raise OSError("once more")
    return 1


def test_each_attempt_has_its_lines() -> None:
    handle = tries.run()
    handle.wait()
    found = [(e.message, e.attempt) for e in logged(handle, source="stdout")]
    assert found == [
        ("life of the flow", 1),
        *((f"try {number}", number) for number in (1, 2, 3)),
        ("life of the flow", 2),
    ]


# --- logging ------------------------------------------------------------------------------------


@checkpoint(cache=False)
def log_all_levels() -> None:
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log.log(level, "a record")
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        log.exception("it went wrong")
    log.warning("not %d", "a number")


@flow
def logging_flow() -> None:
    log_all_levels()


def test_records_come_once_whatever_handles_them_and_only_from_the_level_in_force(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    to_stderr, printing = logging.StreamHandler(), logging.Handler()
    printing.emit = lambda record: print("printed by a handler:", record.levelname)  # type: ignore[method-assign]
    handlers = (to_stderr, printing)
    for handler in handlers:
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        handle = logging_flow.run()
        handle.wait()
    finally:
        log.setLevel(logging.NOTSET)
        for handler in handlers:
            log.removeHandler(handler)
    found = logged(handle)
    levels = ["INFO", "WARNING", "ERROR", "ERROR", "WARNING"]
    assert [(e.source, e.level) for e in found] == [("logging", level) for level in levels]
    assert found[3].message.startswith("it went wrong\nTraceback (most recent call last):\n")
    assert found[3].message.endswith("ZeroDivisionError: division by zero")
    assert "could not be formatted: TypeError" in found[4].message
    printed = capsys.readouterr()
    assert printed.out.count("printed by a handler") == 5
    assert printed.err.count("a record") == 3


def run_program(code: str, tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "program.py").write_text(code)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KITARU_")}
    return subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={**environment, "KITARU_STORE": str(tmp_path / "its-store"), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


PROGRAM = """
import logging, sys
from kitaru import flow

@flow
def hello():
    logging.getLogger("somebody").warning("of last resort")
    print("in the flow")

if __name__ == "__main__":
    before = sys.stdout, sys.stdout.fileno(), sys.stdout.isatty(), sys.stdout.encoding
    hello.run().wait()
    assert before == (sys.stdout, sys.stdout.fileno(), sys.stdout.isatty(), sys.stdout.encoding)
    assert sys.stdout is sys.__stdout__
    logging.basicConfig(format="configured %(message)s")
    logging.warning("at last")
"""


def test_logging_that_nobody_set_up_works_as_before(tmp_path: Path) -> None:
    done = run_program(PROGRAM, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "in the flow\n"
    assert "of last resort\nconfigured at last\n" in done.stderr


def test_without_logs_nothing_is_kept(tmp_path: Path) -> None:
    done = run_program(PROGRAM, tmp_path, KITARU_LOGS="off")
    assert done.stdout == "in the flow\n"
    assert not (tmp_path / "its-store" / "logs").exists()


def test_logs_cannot_be_switched_once_flows_run() -> None:
    conversation.run().wait()
    with pytest.raises(kitaru.KitaruUsageError, match="comes too late"):
        kitaru.configure(logs=False)


# --- what must not happen -----------------------------------------------------------------------


@checkpoint(cache=False)
def forks() -> int:
    print("before")
    child = os.fork()
    if child == 0:
        print("in the child")
        logging.getLogger("child").warning("in the child")
        os._exit(0)
    os.waitpid(child, 0)
    print("after")
    return 1


@flow
def forking() -> int:
    return forks()


def test_a_fork_shares_nothing_with_the_log_of_its_parent() -> None:
    handle = forking.run()
    handle.wait()
    assert messages(handle) == ["before", "after"]


@checkpoint(cache=False)
def reveal(secret: kitaru.Secret) -> None:
    value = secret.get()
    print("the token is", value)
    print("in two ", value[:9], value[9:], sep="")
    log.warning("token: %r", value)


@flow
def revealing(secret: kitaru.Secret) -> None:
    reveal(secret)


def test_values_of_secrets_are_masked(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cr3t-t0ken-0f-0urs")
    handle = revealing.run(kitaru.Secret(env="TOKEN"))
    handle.wait()
    assert messages(handle)[0] == "the token is <secret TOKEN>"
    kept = b"".join(path.read_bytes() for path in (store / "logs").iterdir())
    assert b"s3cr3t-t0ken-0f-0urs" not in kept


def test_a_log_that_cannot_be_written_fails_no_body(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.mkdir()
    (store / ".gitignore").write_bytes(
        b"# Made by Kitaru: this folder is its store and belongs in no repository.\n*\n"
    )
    (store / "logs").write_text("in the way")
    handle = conversation.run()
    assert handle.wait() == ["ann", "bob"]
    assert "logs cannot be kept (NotADirectoryError" in capsys.readouterr().err
    with pytest.raises(kitaru.KitaruLogRetrievalError, match="cannot be read"):
        logged(handle)


class FullAtFirst:
    """A keeper of logs whose disk is full until somebody frees it."""

    is_written_by_tidy = False

    def __init__(self) -> None:
        self.full = True
        self.chunks: list[Chunk] = []
        self.failed = threading.Event()

    def append(self, exec_id: str, epoch: int, chunks: Sequence[Chunk]) -> None:
        if self.full:
            self.failed.set()
            raise OSError(28, "No space left on device")
        self.chunks += chunks

    def close(self, exec_id: str) -> None: ...

    def tidy(self) -> None: ...


def test_what_a_full_disk_did_not_take_is_told_in_the_log() -> None:
    app = kitaru_app.current()
    assert app.services.logs is not None
    keeper = FullAtFirst()
    app.services.logs._logs = keeper  # type: ignore[assignment]

    @flow
    def patient() -> None:
        print("lost")
        assert keeper.failed.wait(10)
        keeper.full = False
        print("kept")

    patient.run().wait()
    assert [chunk.text for chunk in keeper.chunks if chunk.source == "stdout"] == ["kept"]
    (note,) = [chunk.text for chunk in keeper.chunks if chunk.source == "runner"]
    assert note.startswith("about 4 characters were not kept here")


def test_a_stream_that_nobody_can_listen_to_is_told_and_works(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Closed:
        __slots__ = ("lines",)

        def __init__(self) -> None:
            self.lines: list[str] = []

        def write(self, text: str) -> int:
            self.lines.append(text)
            return len(text)

        def flush(self) -> None: ...

    stream = Closed()
    monkeypatch.setattr(sys, "stdout", stream)
    handle = writing.run(["past us\n"])
    handle.wait()
    assert stream.lines == ["past us\n"]
    assert messages(handle) == []
    assert "sys.stdout is a Closed, to which nobody can listen" in capsys.readouterr().err


class Wrapper:
    """As coloured terminals and progress bars stand in for a stream."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        return int(self.stream.write(text))


def test_a_stream_that_hands_on_to_one_that_we_hear_is_heard_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writing.run(["to hear the stream itself"]).wait()
    monkeypatch.setattr(sys, "stdout", Wrapper(sys.stdout))
    handle = writing.run(["a", " line\n", "and another\n"])
    handle.wait()
    assert messages(handle) == ["a line", "and another"]
