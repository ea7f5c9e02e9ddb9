"""``runtime="process"``: bodies in processes of their own, which can be killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, app, checkpoint, flow
from kitaru._engine import own_process
from kitaru.env import SystemEnv

from . import own_processes as far
from .own_processes import Odd, Point
from .waits_kit import Hurried, SetEnv

MAX_SECONDS = 120


@flow
def call(name: str, args: list[Any]) -> Any:
    return getattr(far, name)(*args)


@flow
def caught(name: str, args: list[Any]) -> tuple[str, str, str | None]:
    try:
        getattr(far, name)(*args)
    except Exception as error:
        return type(error).__name__, str(error), getattr(error, "code", None)
    return "", "", None


def run(name: str, *args: Any) -> Any:
    return call.run(name, list(args)).wait(MAX_SECONDS)


def failure(name: str, *args: Any) -> tuple[str, str, str | None]:
    found: tuple[str, str, str | None] = caught.run(name, list(args)).wait(MAX_SECONDS)
    return found


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie that nobody has waited for yet is dead, too.
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def wait_for_end(pid: int) -> None:
    for _ in range(MAX_SECONDS * 50):
        if not is_alive(pid):
            return
        threading.Event().wait(0.02)
    pytest.fail(f"process {pid} is still alive")


# --- what comes back -----------------------------------------------------------------------------


def test_arguments_and_results_are_equal_on_both_sides() -> None:
    values = [Point(1, ("a",)), (1, b"\0"), {"k": {1.5}}]
    pid, value, rest, named = run("echo", *values)
    assert pid != os.getpid()
    assert [value, *rest] == values
    assert named is None
    assert run("make_point", 7) == Point(7, ("made",))


@flow
async def side_by_side() -> list[Any]:
    called = await asyncio.gather(far.echo_async(1), far.echo_async(2))
    submitted = await far.echo.submit(3)
    return [*called, submitted]


def test_async_bodies_run_there_too_and_side_by_side() -> None:
    (one, first), (two, second), (third, *_) = side_by_side.run().wait(MAX_SECONDS)
    assert (one, two) == (1, 2)
    assert len({first, second, third, os.getpid()}) == 4


def test_what_a_body_says_reaches_the_record_and_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    handle = call.run("say", ["ann"])
    said = handle.wait(MAX_SECONDS)
    executions = KitaruClient().executions
    (recorded,) = executions.list_checkpoints(handle.exec_id)
    assert recorded.metadata == {"cost": {"tokens": 3, "cents": 1}}
    assert recorded.checkpoint_type == "tool_call"
    assert (said["exec_id"], said["flow"], said["checkpoint"]) == (handle.exec_id, "call", "say")
    assert (said["attempt"], said["cancelled"], said["same"]) == (1, False, True)
    entries = executions.logs(handle.exec_id, checkpoint="say")
    found = {(e.source, e.message) for e in entries}
    assert found == {
        ("stdout", "hello ann"),
        ("stdout", "half a line"),
        ("stderr", "careful"),
        ("logging", "the record of ann"),
        ("stdout", "from a program"),
    }
    assert {entry.call_id for entry in entries} == {recorded.call_id}
    (record,) = [entry for entry in entries if entry.source == "logging"]
    assert (record.level, record.module, record.logger) == (
        "WARNING",
        "own_processes",
        far.log.name,
    )
    printed = capsys.readouterr()
    assert "hello ann\n" in printed.out
    assert "careful\n" in printed.err


def test_a_retry_has_the_same_idempotency_key_and_counts() -> None:
    handle = call.run("third_time", [])
    assert handle.wait(MAX_SECONDS) == 3
    (recorded,) = KitaruClient().executions.list_checkpoints(handle.exec_id)
    assert [attempt.status for attempt in recorded.attempts] == ["failed", "failed", "completed"]
    logged = KitaruClient().executions.logs(handle.exec_id, source="stdout")
    assert [(e.message, e.attempt) for e in logged] == [(f"try {n}", n) for n in (1, 2, 3)]


def test_an_exception_comes_back_as_what_it_was_with_its_traceback() -> None:
    handle = call.run("fails", [])
    with pytest.raises(kitaru.KitaruUserCodeError) as caught:
        handle.wait(MAX_SECONDS)
    assert isinstance(caught.value.__cause__, Odd)
    assert caught.value.__cause__.why == "it must"
    shown = "".join(traceback.format_exception(caught.value))
    assert 'raise Odd(why="it must")' in shown
    (failed,) = KitaruClient().executions.list_checkpoints(handle.exec_id)
    recorded = failed.failure
    assert recorded is not None
    assert 'raise Odd(why="it must")' in recorded.traceback
    assert "own_processes.py" in recorded.traceback


def test_a_result_that_cannot_be_stored_is_told_with_its_path() -> None:
    name, message, code = failure("unstorable")
    assert (name, code) == ("KitaruValueError", "value-not-storable")
    assert "unstorable" in message


# --- what is killed -------------------------------------------------------------------------------


def test_a_timeout_kills_the_process_and_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    clock = Hurried()
    app.use_env(clock)
    monkeypatch.setattr(own_process, "_MAX_WAIT_SECONDS", 0.02)
    handle = caught.run("hangs", [str(pids)])
    wait_for_file(pids)
    clock.ahead_seconds = 3600.0
    name, message, code = handle.wait()
    app.use_env(SystemEnv())
    assert (name, code) == ("KitaruTimeoutError", "checkpoint-timed-out")
    assert "its process was killed with all that it had started" in message
    for pid in pids.read_text().split():
        wait_for_end(int(pid))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="enforced by Linux only")
def test_more_memory_than_the_cap_is_an_error_in_the_body() -> None:
    assert run("takes", 10_000_000) == 10_000_000
    assert failure("takes", 400_000_000)[0] == "MemoryError"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("exit code", "ended with exit code 3 before"),
        ("segfault", "was killed by SIGSEGV before"),
        ("SIGKILL", "was killed by SIGKILL before"),
        ("SIGABRT", "was killed by SIGABRT before"),
    ],
)
def test_a_process_that_dies_is_a_failed_attempt_that_says_how(how: str, said: str) -> None:
    name, message, code = failure("ends_by", how)
    assert (name, code) == ("KitaruRuntimeError", "process-died")
    assert said in message
    assert "it had up to" in message


def test_the_traceback_of_a_crash_is_in_the_log() -> None:
    handle = caught.run("ends_by", ["segfault"])
    handle.wait(MAX_SECONDS)
    text = "\n".join(e.message for e in KitaruClient().executions.logs(handle.exec_id))
    assert "Fatal Python error: Segmentation fault" in text
    assert "in ends_by" in text


def test_what_is_raised_to_end_the_interpreter_is_a_failure_like_any_other() -> None:
    with pytest.raises(kitaru.KitaruUserCodeError, match="SystemExit"):
        run("ends_by", "SystemExit")


def test_what_a_body_leaves_running_ends_with_it(tmp_path: Path) -> None:
    assert run("leaves_behind", str(tmp_path / "pid")) == "done"
    wait_for_end(int((tmp_path / "pid").read_text()))


def test_a_crash_after_the_outcome_costs_nothing() -> None:
    assert run("ends_badly_after") == "it was done before"


def wait_for_file(path: Path) -> None:
    for _ in range(MAX_SECONDS * 50):
        if path.exists() and path.read_text():
            return
        threading.Event().wait(0.02)
    pytest.fail(f"{path} was not written")


# --- what it may not do ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("calls_another", "checkpoint 'echo' was called in the body of a checkpoint"),
        ("runs_a_flow", "has no store"),
        ("makes_a_client", "has no store"),
    ],
)
def test_the_body_calls_no_other_and_has_no_store(name: str, said: str) -> None:
    kind, message, code = failure(name)
    assert (kind, code) == ("KitaruContextError", "inside-own-process")
    assert said in message


def test_what_cannot_be_sent_is_explained_before_the_start() -> None:
    @flow
    def sends_a_lock() -> None:
        far.echo(threading.Lock())

    handle = sends_a_lock.run()
    with pytest.raises(
        kitaru.KitaruExecutionError, match=r"value of checkpoint echo|echo"
    ) as caught:
        handle.wait(MAX_SECONDS)
    assert caught.value.__cause__ is not None
    assert isinstance(caught.value.__cause__, kitaru.KitaruValueError)
    assert KitaruClient().executions.list_checkpoints(handle.exec_id) == []


def test_a_function_that_no_process_could_import_is_refused_at_decoration() -> None:
    with pytest.raises(kitaru.KitaruUsageError, match="defined inside a function") as caught:

        @checkpoint(runtime="Process")
        def local() -> None: ...

    assert caught.value.code == "not-importable"


@pytest.mark.parametrize(("name", "result"), [("by_lambda", 2), ("wrapped", 3)])
def test_a_checkpoint_is_found_under_whatever_name_it_has(name: str, result: int) -> None:
    assert run(name, 1) == result


def test_a_checkpoint_of_a_class_is_found() -> None:
    @flow
    def uses_a_tool() -> int:
        return far.Tool.at(1)

    assert uses_a_tool.run().wait(MAX_SECONDS) == 4


def test_isolated_is_at_least_a_process() -> None:
    assert checkpoint(runtime="Isolated")(test_isolated_is_at_least_a_process).spec.runtime == (
        "process"
    )


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"runtime": "ray"}, kitaru.KitaruFeatureNotAvailableError, "later release"),
        ({"runtime": "process", "resources": {"gpu": 1}}, NotImplementedError, "gpu"),
        ({"resources": {"memory": "1GiB"}}, kitaru.KitaruUsageError, "add runtime="),
        ({"runtime": "process", "resources": 7}, kitaru.KitaruUsageError, "resources=7"),
        *(
            ({"runtime": "process", "resources": {"memory": wrong}}, ValueError, "memory")
            for wrong in ("1 potato", -1, True, "1MiB", None, 1e9, "9" * 30)
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        checkpoint(**options)(test_options_that_make_no_sense_are_refused)


def test_values_of_secrets_that_are_resolved_there_are_masked_here(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "an-0ther-s3cret-token")
    handle = call.run("reveals", [kitaru.Secret(env="TOKEN")])
    handle.wait(MAX_SECONDS)
    (entry,) = KitaruClient().executions.logs(handle.exec_id, source="stdout")
    assert entry.message == "the token is <secret TOKEN>"
    kept = b"".join(path.read_bytes() for path in (store / "logs").iterdir())
    assert b"an-0ther-s3cret-token" not in kept


# --- cancelling, and the end of the owner --------------------------------------------------------


def test_an_await_that_is_cancelled_kills_the_process(tmp_path: Path) -> None:
    @flow
    async def cancels(pids: str) -> str:
        body = asyncio.ensure_future(far.slow_async(pids))
        await asyncio.to_thread(wait_for_file, Path(pids))
        body.cancel()
        try:
            await body
        except asyncio.CancelledError:
            return "cancelled"
        return "it came to an end"

    assert cancels.run(str(tmp_path / "pid")).wait(MAX_SECONDS) == "cancelled"
    wait_for_end(int((tmp_path / "pid").read_text()))


def test_a_body_may_finish_when_its_execution_is_cancelled_and_is_recorded(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    handle = call.run("waits_until_told", [str(begun)])
    wait_for_file(begun)
    handle.cancel()
    with pytest.raises(kitaru.KitaruCancelledError):
        handle.wait(MAX_SECONDS)
    (recorded,) = KitaruClient().executions.list_checkpoints(handle.exec_id)
    assert (recorded.status, recorded.result()) == ("completed", "finished all the same")


def test_a_body_that_asks_ends_when_its_execution_is_cancelled(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    handle = call.run("asks_whether_to_end", [str(begun)])
    wait_for_file(begun)
    handle.cancel()
    with pytest.raises(kitaru.KitaruCancelledError):
        handle.wait(MAX_SECONDS)
    assert KitaruClient().executions.list_checkpoints(handle.exec_id) == []
    wait_for_end(int(begun.read_text()))


def test_the_deadline_of_the_execution_kills_the_process(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    clock = SetEnv()
    app.use_env(clock)
    handle = call.options(timeout=3600).run("sleeps", [str(begun)])
    wait_for_file(begun)
    clock.ahead_seconds = 3600.0
    app.use_env(SystemEnv())
    with pytest.raises(kitaru.KitaruExecutionError, match="time"):
        handle.wait(MAX_SECONDS)
    assert handle.status.value == "failed"
    wait_for_end(int(begun.read_text()))


def test_a_program_that_ends_takes_the_process_with_it(tmp_path: Path) -> None:
    program = (
        PROGRAM
        + """
if __name__ == "__main__":
    import kitaru, threading
    kitaru.configure(at_exit="leave", at_exit_seconds=0)
    killed.run(sys.argv[1])
    # Not only there: with the numbers in it.
    while not os.path.exists(sys.argv[1]) or not os.path.getsize(sys.argv[1]):
        threading.Event().wait(0.02)
"""
    )
    pids = tmp_path / "pids"
    owner = start_program(tmp_path, program, str(pids))
    owner.communicate(timeout=MAX_SECONDS)
    wait_for_file(pids)
    for pid in pids.read_text().split():
        wait_for_end(int(pid))


def test_a_guard_that_is_killed_takes_the_body_with_it(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    handle = caught.run("sleeps_behind_its_guard", [str(begun)])
    wait_for_file(begun)
    guard, body = map(int, begun.read_text().split())
    os.kill(guard, signal.SIGKILL)
    name, message, code = handle.wait(MAX_SECONDS)
    assert (name, code) == ("KitaruRuntimeError", "process-died")
    assert "is gone" in message
    wait_for_end(body)


def test_a_program_without_standard_streams_has_processes_of_its_own_too(tmp_path: Path) -> None:
    program = """
import os
from kitaru import checkpoint, flow

@checkpoint(runtime="process")
def body() -> int:
    print("said")
    return 7

@flow
def daemon() -> int:
    return body()

if __name__ == "__main__":
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    result = daemon.run().wait()
    with open("result", "w") as file:
        file.write(str(result))
"""
    owner = start_program(tmp_path, program)
    owner.communicate(timeout=MAX_SECONDS)
    assert (tmp_path / "result").read_text() == "7"


PROGRAM = """
import os, sys, time
from pathlib import Path
from kitaru import checkpoint, flow

@checkpoint(runtime="process", cache=False)
def body(path: str) -> None:
    sleeper = os.popen("sleep 1000 & echo $!").readline().strip()
    Path(path).write_text(f"{os.getpid()} {sleeper}")
    time.sleep(1000)

@flow
def killed(path: str) -> None:
    body(path)
"""


def start_program(tmp_path: Path, program: str, *words: str) -> subprocess.Popen[str]:
    (tmp_path / "program.py").write_text(program)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KITARU_")}
    return subprocess.Popen(
        [sys.executable, "program.py", *words],
        cwd=tmp_path,
        env={**environment, "KITARU_STORE": str(tmp_path / "its-store")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_owner_leaves_no_orphans(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program = PROGRAM + '\nif __name__ == "__main__":\n    killed.run(sys.argv[1]).wait()\n'
    owner = start_program(tmp_path, program, str(pids))
    wait_for_file(pids)
    owner.kill()
    owner.communicate()
    for pid in pids.read_text().split():
        wait_for_end(int(pid))


def test_a_script_without_a_main_guard_is_explained(tmp_path: Path) -> None:
    owner = start_program(tmp_path, PROGRAM + '\nkilled.run("x").wait()\n')
    _, said = owner.communicate(timeout=MAX_SECONDS)
    assert owner.returncode == 1
    assert 'if __name__ == "__main__":' in said
    assert "flow-run-during-import" in said


def test_code_that_changed_since_the_program_began_is_not_run(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from kitaru import checkpoint, flow

@checkpoint(runtime="process")
def body() -> int:
    return 1

@flow
def changes() -> int:
    here = Path(sys.argv[0])
    here.write_text(here.read_text().replace("return 1", "return 2"))
    return body()

if __name__ == "__main__":
    changes.run().wait()
"""
    owner = start_program(tmp_path, program)
    _, said = owner.communicate(timeout=MAX_SECONDS)
    assert "code-changed-meanwhile" in said
