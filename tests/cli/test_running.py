"""Commands that run executions, as real processes: run, kill, resume elsewhere, retry."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from .programs import MAX_SECONDS, Project, last_line, one_line


def test_a_flow_of_a_file_runs_and_its_result_is_on_stdout(project: Project) -> None:
    done = project.run("run", "shop.py:total", "--", "--count", "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["pricing 0", "pricing 1", "pricing 2", "30"]
    assert "of flow 'total'" in done.stderr
    assert project.store.is_dir()


def test_a_flow_of_a_module_runs_too_and_reuses(project: Project) -> None:
    project.run("run", "shop.py:total", "--", "--count", "3")
    item = project.ask("run", "shop:total", "--args", '{"count": 3}')["item"]
    assert (item["status"], item["result"], item["inputs"]) == ("completed", 30, {"count": 3})
    assert len(project.journal()) == 3


def test_a_checkpoint_is_told_from_a_flow_and_the_flows_are_named(project: Project) -> None:
    done = project.run("run", "shop.py:price", "--", "--number", "3")
    assert done.returncode == 2
    assert "is a checkpoint, which runs inside a flow" in done.stderr
    assert "total" in done.stderr
    assert project.journal() == []


def test_no_cache_reuses_nothing(project: Project) -> None:
    project.run("run", "shop.py:total", "--", "--count", "2")
    project.run("run", "shop.py:total", "--no-cache", "--", "--count", "2")
    assert len(project.journal()) == 4


def test_with_json_what_user_code_prints_goes_to_stderr(project: Project) -> None:
    done = project.run("run", "shop.py:total", "-o", "json", "--", "--count", "2")
    assert one_line(done.stdout)["item"]["result"] == 10
    assert "pricing 1" in done.stderr


def test_values_are_read_as_the_annotations_say(project: Project) -> None:
    words = ["--name", "7", "--count=2", "--ratio", "3", "--loud", "--tags", '["a"]']
    done = project.run("run", "shop.py:everything", "-o", "json", "--", *words,
                       "--anything", '{"n": null}')  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert one_line(done.stdout)["item"]["result"] == ["7", 2, 3.0, True, ["a"], {"n": None}]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--", "--count", "many", "--name", "x"], "whole number"),
        (["--", "--nam", "x"], "did you mean --name"),
        (["--", "x"], "write --NAME VALUE"),
        (["--name", "x"], "go after --"),
        (["--args", "{"], "not JSON"),
        (["--args", "3"], "JSON of a int"),
        (["--", "--count", "3"], "name"),
    ],
)
def test_arguments_that_misfit_are_wrong_usage(
    project: Project, words: list[str], said: str
) -> None:
    done = project.run("run", "shop.py:everything", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("shop.py:totl", "did you mean 'total'"),
        ("shop.py:not_a_flow", "decorate it with @flow"),
        ("shop.py", "MODULE:FLOW"),
        ("nowhere.py:total", "there is no file"),
        ("shp.py:total", "did you mean 'shop.py'?"),
        ("nowhere/shop.py:total", "name one that is there"),
        ("no_such_module:total", "there is no module 'no_such_module'"),
        ("../x y:total", "there is no file"),
    ],
)
def test_a_target_that_is_not_there_is_wrong_usage(
    project: Project, target: str, said: str
) -> None:
    done = project.run("run", target)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not project.store.exists()


def test_a_failed_flow_shows_the_users_traceback_and_only_that(project: Project) -> None:
    (project.folder / "declined").touch()
    done = project.run("run", "shop.py:buy")
    assert done.returncode == 1
    assert "card declined" in done.stderr
    assert 'shop.py", line' in done.stderr
    assert os.path.join("kitaru", "_engine") not in done.stderr
    assert "kitaru executions retry" in done.stderr


def test_a_failed_flow_with_json_gives_the_execution_and_the_error(project: Project) -> None:
    (project.folder / "declined").touch()
    done = project.run("run", "shop.py:buy", "-o", "json")
    assert done.returncode == 1
    item = one_line(done.stdout)["item"]
    assert (item["status"], item["failure"]["exception_type"]) == ("failed", "ValueError")
    assert (item["failure"]["code"], item["failure"]["kind"]) == ("user-code-raised", "your_code")
    error = last_line(done.stderr)
    assert error["command"] == "run"
    assert error["error"]["type"] == "KitaruUserCodeError"


def test_a_retry_after_a_fix_runs_only_what_failed(project: Project) -> None:
    (project.folder / "declined").touch()
    project.run("run", "shop.py:buy")
    exec_id = project.ask("executions", "list")["items"][0]["exec_id"]
    (project.folder / "declined").unlink()
    done = project.run("executions", "retry", exec_id)
    assert (done.returncode, done.stdout) == (0, "10\n"), done.stderr
    assert "charge runs again" in done.stderr
    assert project.journal() == ["price 0", "price 1", "charge 10", "charge 10"]


def test_a_killed_run_is_interrupted_and_resumed_from_another_folder(
    project: Project, tmp_path: Path
) -> None:
    process = project.run_to_the_gate()
    process.kill()
    process.communicate(timeout=MAX_SECONDS)
    (found,) = project.ask("executions", "list")["items"]
    assert found["status"] == "interrupted"
    assert project.ask("status")["item"]["executions"] == {"interrupted": 1}

    project.open_gate()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    store = ["--store", str(project.store)]
    done = project.run("executions", "resume", found["exec_id"], *store, cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "33"
    assert project.journal() == ["price 0", "price 1", "price 2", "gate 3", "gate 3"]


def test_the_same_key_goes_on_with_the_same_execution(project: Project) -> None:
    process = project.run_to_the_gate("--key", "march")
    process.kill()
    process.communicate(timeout=MAX_SECONDS)
    project.open_gate()
    done = project.run("run", "shop.py:gated", "--key", "march", "--", "--count", "3")
    assert done.returncode == 0, done.stderr
    assert len(project.ask("executions", "list")["items"]) == 1
    assert project.journal().count("price 0") == 1


def test_an_execution_that_runs_elsewhere_is_not_resumed(project: Project) -> None:
    process = project.run_to_the_gate()
    exec_id = project.ask("executions", "list")["items"][0]["exec_id"]
    owners = project.ask("status")["item"]["owners"]
    assert [owner["pid"] for owner in owners] == [process.pid]
    done = project.run("executions", "resume", exec_id, "-o", "json")
    assert done.returncode == 1
    error = last_line(done.stderr)["error"]
    assert error["type"] == "KitaruStateError"
    assert f"process {process.pid}" in error["message"]
    process.kill()
    process.communicate(timeout=MAX_SECONDS)


PATIENT = """
from kitaru.cli import follow
from shop import gated_then_charged

follow.DRAIN_SECONDS = 120.0  # it is the test that ends the body, not the clock
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_hands_back_and_shows_how_to_go_on(
    project: Project, number: signal.Signals, status: int
) -> None:
    (project.folder / "patient.py").write_text(PATIENT)
    process = project.run_to_the_gate(target="patient.py:gated_then_charged")
    process.send_signal(number)
    assert process.stderr is not None
    said = ""
    while "stopping" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    # The body that runs gets its time; letting it finish ends the wait. What comes after it
    # does not start any more.
    waiting = os.open(project.folder / "gate", os.O_WRONLY)
    os.close(waiting)
    _, err = process.communicate(timeout=MAX_SECONDS)
    assert process.returncode == status
    exec_id = project.ask("executions", "list")["items"][0]["exec_id"]
    assert f"kitaru executions resume {exec_id}" in err
    done = project.run("executions", "resume", exec_id)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "33"), done.stderr
    assert project.journal() == ["price 0", "price 1", "price 2", "gate 3", "charge 33"]


def test_a_second_ctrl_c_ends_at_once(project: Project) -> None:
    process = project.run_to_the_gate()
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "stopping" not in (line := process.stderr.readline()):
        assert line
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=MAX_SECONDS)
    assert process.returncode == 130, err
    assert "kitaru executions resume" in err


def test_with_json_a_stopped_run_ends_with_an_error_envelope(project: Project) -> None:
    # A program that reads JSON is not told when it stops: so this one cannot end before it does.
    process = project.run_to_the_gate("-o", "json", target="shop.py:endless", prints=False)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=MAX_SECONDS)
    assert (process.returncode, out) == (143, "")
    error = last_line(err)
    assert error["command"] == "run"
    assert "kitaru executions resume" in error["error"]["message"]


EARLY = """
import os
import signal

from kitaru.cli import running
from shop import endless

follow = running.follow

def told_before(*words, **more):
    os.kill(os.getpid(), signal.SIGTERM)
    return follow(*words, **more)

running.follow = told_before
"""


def test_a_signal_that_comes_before_a_new_execution_is_followed_hands_it_back(
    project: Project,
) -> None:
    (project.folder / "early.py").write_text(EARLY)
    done = project.run("run", "early.py:endless", "--", "--count", "1")
    assert done.returncode == 143, done.stderr
    (found,) = project.ask("executions", "list")["items"]
    assert found["status"] == "pending"
    assert "stopping: bodies get 5 s" in done.stderr
    assert f"kitaru executions resume {found['exec_id']}" in done.stderr
    assert "nothing more was started" not in done.stderr


def test_ctrl_c_while_a_module_is_imported_ends_the_command(project: Project) -> None:
    os.mkfifo(project.folder / "gate")
    (project.folder / "slow.py").write_text(
        "print('importing', flush=True)\nopen('gate').read()\nfrom shop import total\n"
    )
    process = project.start("run", "slow.py:total", "--", "--count", "1")
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=MAX_SECONDS)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err


# --- importing ---------------------------------------------------------------------------------


def interrupted_with_code_in(project: Project, folder: Path) -> str:
    """An interrupted execution in the project's store whose module lies in another folder."""
    outside = Project(folder)
    os.mkfifo(folder / "gate")
    words = ["run", str(folder / "shop.py:gated"), "--store", str(project.store)]
    process = outside.start(*words, "--", "--count", "3")
    assert process.stdout is not None
    while (line := process.stdout.readline()) != "at the gate\n":
        assert line, process.communicate()[1]
    process.kill()
    process.communicate(timeout=MAX_SECONDS)
    exec_id = project.ask("executions", "list", "--store", str(project.store))["items"][0]
    return str(exec_id["exec_id"])


def test_a_recorded_folder_outside_the_project_is_imported_only_if_said_so(
    project: Project, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    exec_id = interrupted_with_code_in(project, other)
    marker = other / "imported"
    with (other / "shop.py").open("a") as file:
        file.write(f"\nopen({str(marker)!r}, 'w').close()\n")
    (other / "gate").unlink()
    (other / "gate").write_text("")

    refused = project.run("executions", "resume", exec_id)
    assert refused.returncode == 1
    assert f"--code {other}" in refused.stderr
    assert not marker.exists()

    done = project.run("executions", "resume", exec_id, "--code", str(other))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "33"), done.stderr
    assert marker.exists()


def test_a_folder_that_moved_is_named_with_code(project: Project, tmp_path: Path) -> None:
    other = tmp_path / "other"
    exec_id = interrupted_with_code_in(project, other)
    moved = tmp_path / "moved"
    other.rename(moved)
    done = project.run("executions", "resume", exec_id)
    assert done.returncode == 1
    assert "not there any more" in done.stderr
    assert "--code" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_module_of_another_user_is_imported_only_if_said_so(project: Project) -> None:
    process = project.run_to_the_gate()
    process.kill()
    process.communicate(timeout=MAX_SECONDS)
    project.open_gate()
    os.chown(project.folder / "shop.py", 12345, -1)
    exec_id = project.ask("executions", "list")["items"][0]["exec_id"]
    refused = project.run("executions", "resume", exec_id)
    assert refused.returncode == 1
    assert "belongs to another user" in refused.stderr
    done = project.run("executions", "resume", exec_id, "--code", str(project.folder))
    assert done.returncode == 0, done.stderr


def test_a_run_at_the_top_level_of_an_imported_module_is_refused(project: Project) -> None:
    (project.folder / "eager.py").write_text("import shop\nshop.total.run(1).wait()\n")
    done = project.run("run", "eager.py:total")
    assert done.returncode == 2
    assert '__name__ == "__main__"' in done.stderr
    assert project.journal() == []


def test_a_module_that_raises_shows_its_own_traceback(project: Project) -> None:
    (project.folder / "broken.py").write_text("def f():\n    return 1 / 0\n\nf()\n")
    done = project.run("run", "broken.py:total")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert 'broken.py", line 2' in done.stderr
    assert "importing.py" not in done.stderr


def test_a_misuse_at_the_top_of_a_module_shows_its_line(project: Project) -> None:
    source = "from kitaru import flow\n\n@flow(retries=-1)\ndef f() -> int:\n    return 1\n"
    (project.folder / "misused.py").write_text(source)
    done = project.run("run", "misused.py:f")
    assert done.returncode == 2
    assert 'misused.py", line 3, in <module>\n    @flow(retries=-1)\n' in done.stderr
    assert "error in use: retries=-1" in done.stderr
    assert "flows.py" not in done.stderr.replace("my_flows.py", "")
    assert "importlib" not in done.stderr


def test_a_module_that_exits_does_not_end_the_command_silently(project: Project) -> None:
    (project.folder / "leaving.py").write_text("import sys\nsys.exit(0)\n")
    done = project.run("run", "leaving.py:total", "-o", "json")
    assert done.returncode == 1
    assert "SystemExit" in last_line(done.stderr)["error"]["message"]


def test_a_module_may_choose_the_store_and_the_option_wins_over_it(
    project: Project, tmp_path: Path
) -> None:
    chosen = tmp_path / "chosen"
    (project.folder / "choosing.py").write_text(
        f"import kitaru\nkitaru.configure(store={str(chosen)!r})\nfrom shop import total\n"
    )
    project.run("run", "choosing.py:total", "--", "--count", "1")
    assert chosen.is_dir()
    named = tmp_path / "named"
    project.run("run", "choosing.py:total", "--store", str(named), "--", "--count", "1")
    assert named.is_dir()


def test_what_was_defined_in_a_prompt_cannot_be_resumed_from_here(project: Project) -> None:
    import subprocess
    import sys

    code = (
        "import os, kitaru\n"
        "@kitaru.flow\n"
        "def typed() -> int:\n"
        "    os.kill(os.getpid(), 9)\n"
        "    return 1\n"
        "typed.run().wait()\n"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=project.folder,
        env=project.environment(),
        capture_output=True,
        timeout=MAX_SECONDS,
        check=False,
    )
    exec_id = project.ask("executions", "list")["items"][0]["exec_id"]
    done = project.run("executions", "resume", exec_id)
    assert done.returncode == 1
    assert "python -c" in done.stderr


def test_a_store_that_is_nobodys_project_does_not_choose_what_is_imported(
    project: Project, tmp_path: Path
) -> None:
    far = str(tmp_path / "unpacked")
    process = project.run_to_the_gate("--store", far)
    process.kill()
    process.communicate(timeout=MAX_SECONDS)
    exec_id = project.ask("executions", "list", "--store", far)["items"][0]["exec_id"]
    refused = project.run("executions", "resume", exec_id, "--store", far, cwd=tmp_path)
    assert refused.returncode == 1
    assert "--code" in refused.stderr
    project.open_gate()
    words = ("executions", "resume", exec_id, "--store", far, "--code", str(project.folder))
    assert project.run(*words, cwd=tmp_path).returncode == 0


def test_a_named_store_believes_its_folders_where_it_was_made_and_nowhere_else(
    project: Project, tmp_path: Path
) -> None:
    far = str(tmp_path / "elsewhere")
    process = project.run_to_the_gate("--store", far)
    process.kill()
    process.communicate(timeout=MAX_SECONDS)
    project.open_gate()
    exec_id = project.ask("executions", "list", "--store", far)["items"][0]["exec_id"]
    other = Project(tmp_path / "other")
    refused = other.run("executions", "resume", exec_id, "--store", far)
    assert refused.returncode == 1
    assert "--code" in refused.stderr
    done = project.run("executions", "resume", exec_id, "--store", far)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "33"), done.stderr


@pytest.mark.parametrize("words", [["mcp"], ["ui"]])
def test_a_command_of_a_later_release_says_so(project: Project, words: list[str]) -> None:
    done = project.run(*words, "-o", "json")
    assert done.returncode == 1
    error = one_line(done.stderr)["error"]
    assert error["type"] == "KitaruFeatureNotAvailableError"
    assert words[-2 if len(words) == 3 else 0] in error["message"]
