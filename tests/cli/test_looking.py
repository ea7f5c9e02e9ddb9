"""Commands that look: what they print for people and for programs, and their exit statuses."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from kitaru import __version__
from kitaru.cli.canvas import columns_of
from kitaru.cli.entry import named_command, perform
from kitaru.cli.output import cleaned, json_line, without_our_frames
from kitaru.cli.root import executions, kitaru

from .programs import MAX_SECONDS, Project, last_line, one_line

COMMANDS = [
    *([name] for name in kitaru.lazy),
    *(["executions", name] for name in executions.lazy),
]


@pytest.fixture(scope="module")
def used_before(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("used") / "project")
    for count in ("2", "3"):
        assert project.run("run", "shop.py:total", "--", "--count", count).returncode == 0
    return project


@pytest.fixture
def used(used_before: Project, tmp_path: Path) -> Project:
    """A project in which a flow ran twice, with other arguments; a copy for each test."""
    return used_before.copy(tmp_path / "project")


def newest(project: Project) -> str:
    exec_id = project.ask("executions", "list")["items"][0]["exec_id"]
    assert isinstance(exec_id, str)
    return exec_id


# --- list, get, why, status, init -------------------------------------------------------------


def test_list_prints_one_line_for_each_execution(used: Project) -> None:
    done = used.run("executions", "list")
    head, *lines = done.stdout.splitlines()
    columns = "id flow status created seconds calls failed key tags waits_for parent reason"
    assert head.split("\t") == columns.split()
    assert [line.split("\t")[1:3] for line in lines] == [["total", "completed"]] * 2
    assert [line.split("\t")[5:7] for line in lines] == [["3", "0"], ["2", "0"]]
    assert "\x1b" not in done.stdout


def test_list_as_json_counts_its_items(used: Project) -> None:
    found = used.ask("executions", "list", "--flow", "total", "--limit", "1")
    assert found["command"] == "executions.list"
    assert found["count"] == len(found["items"]) == 1
    assert found["items"][0]["inputs"] == {"count": 3}
    assert used.ask("executions", "list", "--status", "failed")["items"] == []


def test_list_says_that_there_are_more_and_how_to_see_them(used: Project) -> None:
    done = used.run("executions", "list", "--limit", "1")
    first = done.stdout.splitlines()[1].split("\t")[0]
    assert f"there are more than these 1: add --before {first}" in done.stderr
    page = used.ask("executions", "list", "--limit", "1")
    assert page["next"] == first
    rest = used.ask("executions", "list", "--before", first)
    assert (rest["count"], rest["next"]) == (1, None)
    assert rest["items"][0]["calls"] == {"completed": 2, "failed_attempts": 0}


def test_list_takes_times_keys_and_tags(used: Project) -> None:
    (used.folder / "tagged.py").write_text(
        "import shop\n"
        "if __name__ == '__main__':\n"
        "    shop.total.options(key='july', tags=['nightly', 'eu']).run(1).wait()\n"
    )
    subprocess.run(
        [sys.executable, "tagged.py"], cwd=used.folder, env=used.environment(), check=True
    )

    def counted(*words: str) -> int:
        return int(used.ask("executions", "list", *words)["count"])

    assert counted("--since", "1h") == counted("--since", "2020-01-01") == 3
    assert counted("--before", "1h") == counted("--since", "2999-01-01T00:00") == 0
    assert counted("--before", "2999-01-01") == 3
    assert counted("--key", "july") == counted("--tag", "eu", "--tag", "nightly") == 1
    assert counted("--tag", "eu", "--tag", "us") == counted("--key", "june") == 0


def test_list_suggests_the_flow_that_was_meant(used: Project) -> None:
    done = used.run("executions", "list", "--flow", "totl")
    assert (done.returncode, done.stdout) == (0, "")
    assert "did you mean 'total'?" in done.stderr


def test_a_misspelt_id_suggests_the_nearest(used: Project) -> None:
    exec_id = newest(used)
    wrong = exec_id[:-3] + "zz1"[-3:].replace("z", "0")
    done = used.run("executions", "get", wrong)
    assert done.returncode == 1
    assert f"did you mean {exec_id}?" in done.stderr


def test_get_shows_the_execution_and_its_calls(used: Project) -> None:
    exec_id = newest(used)
    done = used.run("executions", "get", exec_id[-8:])
    assert done.returncode == 0
    assert exec_id in done.stdout
    assert "input changed: number" in done.stdout
    assert "reused" in done.stdout


def test_get_as_json_has_the_calls_and_with_result_the_result(used: Project) -> None:
    item = used.ask("executions", "get", newest(used), "--result")["item"]
    assert item["result"] == 30
    assert [call["source"] for call in item["checkpoints"]] == ["reused", "reused", "ran"]
    assert item["checkpoints"][2]["inputs"] == {"number": 2}
    assert not any(name.startswith("_") for name in item)


def test_get_result_prints_nothing_else(used: Project) -> None:
    assert used.run("executions", "get", newest(used), "--result").stdout == "30\n"


def test_a_result_whose_class_is_not_imported_is_shown_all_the_same(project: Project) -> None:
    (project.folder / "dated.py").write_text(
        "import dataclasses, kitaru\n"
        "@dataclasses.dataclass\n"
        "class Day:\n    name: str\n"
        "@kitaru.flow\n"
        "def day() -> Day:\n    return Day('monday')\n"
    )
    assert project.run("run", "dated.py:day").returncode == 0
    assert "monday" in project.run("executions", "get", newest(project), "--result").stdout


def test_an_execution_without_a_result_says_so(project: Project) -> None:
    (project.folder / "declined").touch()
    project.run("run", "shop.py:buy")
    done = project.run("executions", "get", newest(project), "--result")
    assert (done.returncode, done.stdout) == (1, "")
    assert "is failed: it has no result" in done.stderr


def test_why_explains_each_call_in_a_line(used: Project) -> None:
    done = used.run("executions", "why", newest(used), "price")
    lines = done.stdout.splitlines()
    assert lines[2] == "#2 price: ran: input changed: number"
    assert lines[0].startswith("#0 price: reused from ")
    found = used.ask("executions", "why", newest(used))
    assert (found["count"], found["items"][2]["changed"]) == (3, ["number"])


def test_a_misspelt_checkpoint_suggests_the_nearest(used: Project) -> None:
    done = used.run("executions", "why", newest(used), "prize")
    assert done.returncode == 1
    assert "recorded are: price. Did you mean 'price'?" in done.stderr


def test_status_tells_the_store_and_the_counts(used: Project) -> None:
    item = used.ask("status")["item"]
    assert item["store"] == str(used.store)
    assert item["executions"] == {"completed": 2}
    assert item["project"] == "project"
    assert item["bytes"] > 0
    assert item["owners"] == []
    assert str(used.store) in used.run("status").stdout


def test_init_makes_the_store_and_nothing_else_and_does_so_once(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    for file in project.folder.iterdir():
        file.unlink()
    assert project.ask("init")["item"] == {
        "store": str(project.store),
        "project": "project",
        "made": True,
    }
    assert [path.name for path in project.folder.iterdir()] == [".kitaru"]
    before = sorted(path.name for path in project.store.iterdir())
    assert project.ask("init")["item"]["made"] is False
    assert sorted(path.name for path in project.store.iterdir()) == before


def test_init_refuses_the_home_folder(project: Project) -> None:
    home = Path(project.environment()["HOME"])
    home.mkdir()
    done = project.run("init", cwd=home)
    assert done.returncode == 2
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("words", [["executions", "list"], ["status"], ["executions", "get", "a"]])
def test_looking_makes_no_store(project: Project, words: list[str]) -> None:
    done = project.run(*words, "-o", "json")
    assert done.returncode == 1
    error = one_line(done.stderr)
    assert error["command"] == ".".join(words[:2])
    assert error["error"]["type"] == "KitaruNotFoundError"
    assert not project.store.exists()


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["exections"], "did you mean 'executions'"),
        (["executions", "lits"], "did you mean 'list'"),
        (["lst"], "did you mean 'executions list'"),
        (["executions", "get"], "Missing argument"),
        (["executions", "list", "--statsu", "x"], "--status"),
        (["executions", "list", "--status", "asleep"], "asleep"),
        (["executions", "list", "--limit", "many"], "many"),
        (["executions", "list", "--limit", "0"], "limit=0"),
        (["executions", "list", "--since", "yesterday"], "is no time"),
        (["executions", "list", "--status", "compelted"], "Did you mean 'completed'?"),
        (["executions", "list", "--flw", "x"], "Did you mean "),
        (["completion", "zhs"], "Did you mean 'zsh'?"),
        (["-o", "jsn", "status"], "Did you mean 'json'?"),
        (["status", "extra"], "extra"),
        (["status", "-o", "yaml"], "yaml"),
    ],
)
def test_wrong_usage_is_status_2_in_text_and_in_json(
    used: Project, words: list[str], said: str
) -> None:
    done = used.run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    if "-o" not in words:
        done = used.run(*words, "-o", "json")
        assert (done.returncode, done.stdout) == (2, "")
        error = one_line(done.stderr)["error"]
        assert error["type"] == "KitaruUsageError"
        assert said in error["message"]


def test_no_command_shows_the_help_on_stderr(project: Project) -> None:
    done = project.run()
    assert (done.returncode, done.stdout) == (2, "")
    assert "Examples:" in done.stderr


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ([], "kitaru"),
        (["-o", "json", "run", "x"], "run"),
        (["executions", "why", "list"], "executions.why"),
        (["nonsense", "get"], "kitaru"),
        (["executions", "nonsense"], "executions"),
    ],
)
def test_an_envelope_names_the_command(words: list[str], name: str) -> None:
    assert named_command(words) == name


# --- help -------------------------------------------------------------------------------------


def test_no_command_is_both_here_and_of_a_later_release() -> None:
    for group in (kitaru, executions):
        assert not set(group.lazy) & set(group.later)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_examples_and_the_common_options(words: list[str]) -> None:
    shown = CliRunner().invoke(kitaru, [*words, "--help"], prog_name="kitaru")
    assert shown.exit_code == 0
    assert "Examples:" in shown.output
    assert f"  kitaru {' '.join(words)}" in shown.output
    assert "--output" in shown.output
    assert "--store" in shown.output


def test_the_help_of_a_group_says_what_its_commands_say() -> None:
    for group in (kitaru, executions):
        for name in group.list_commands(click.Context(group)):
            command = group.get_command(click.Context(group), name)
            assert command is not None
            assert command.name == name


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["run", "--help"],
                                   ["executions", "list", "--help"]])  # fmt: skip
def test_version_and_help_load_neither_engine_nor_driver_nor_tables(words: list[str]) -> None:
    heavy = ("apsw", "rich.table", "pydantic", "asyncio", "kitaru._engine", "kitaru.app")
    code = (
        "import sys\nfrom kitaru.cli.entry import perform\n"
        f"assert perform({words!r}) == 0\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr.strip() == "[]"


def test_a_list_loads_neither_engine_nor_tables_nor_an_event_loop(used: Project) -> None:
    heavy = ("kitaru.app", "kitaru.flows", "kitaru._engine.execution", "kitaru.why", "rich",
             "asyncio", "concurrent.futures", "pydantic")  # fmt: skip
    code = (
        "import sys\nfrom kitaru.cli.entry import perform\n"
        "sys.modules['__main__'].__dict__.pop('__file__', None)\n"
        "assert perform(['executions', 'list']) == 0\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True,
        cwd=used.folder, env=used.environment(),
    )  # fmt: skip
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("words", [["no-such-command"], ["run", "nowhere.py:hello"],
                                   ["run", "no flow"], ["run", "--wrong", "x"]])  # fmt: skip
def test_an_error_that_the_words_show_loads_no_engine_either(words: list[str]) -> None:
    heavy = ("asyncio", "kitaru._engine", "kitaru.app")
    code = (
        "import sys\nfrom kitaru.cli.entry import perform\n"
        f"assert perform({words!r}) == 2\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
    assert "error in use:" in done.stderr


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert perform(["--version"]) == 0
    assert capsys.readouterr().out == f"kitaru {__version__}\n"


# --- terminals, pipes and closed streams ------------------------------------------------------


def on_a_terminal(project: Project, *words: str, **environment: str) -> str:
    """What a command writes to a terminal that is its stdout."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "kitaru", *words],
        cwd=project.folder,
        env={**project.environment(), "TERM": "xterm", "COLUMNS": "100", **environment},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        written = b""
        try:
            while part := os.read(ours, 65536):
                written += part
        except OSError:
            pass  # the other side is closed: so a terminal says that it ends
        os.close(ours)
        process.wait(timeout=MAX_SECONDS)
    return written.decode()


def test_a_terminal_gets_colours_unless_it_says_no(used: Project) -> None:
    assert "\x1b[32m✔ completed" in on_a_terminal(used, "executions", "list")
    assert "\x1b[3" not in on_a_terminal(used, "executions", "list", NO_COLOR="1")
    assert "\x1b" not in on_a_terminal(used, "executions", "list", TERM="dumb")
    assert "\x1b[33merror in use:\x1b[0m" in on_a_terminal(used, "executions", "get", "zz")
    assert "\x1b" not in on_a_terminal(used, "executions", "get", "zz", NO_COLOR="1")


def test_a_terminal_of_20_columns_shows_the_whole_id(used: Project) -> None:
    shown = on_a_terminal(used, "executions", "list", COLUMNS="20", NO_COLOR="1")
    assert newest(used).rpartition("-")[2] in shown.replace("\r\n", "").replace(" ", "")


SIZES = [20, 40, 80, 120]


@pytest.mark.parametrize("columns", SIZES)
def test_what_looks_fits_any_terminal(used: Project, columns: int) -> None:
    exec_id = newest(used)
    for words in (["executions", "list"], ["executions", "get", exec_id], ["status"], ["doctor"],
                  ["executions", "why", exec_id]):  # fmt: skip
        shown = on_a_terminal(used, *words, COLUMNS=str(columns), NO_COLOR="1", LC_ALL="C.UTF-8")
        lines = shown.replace("\r\n", "\n").splitlines()
        assert lines
        assert max(map(columns_of, lines)) <= columns, (words, lines)
        assert "\x1b" not in shown


def test_a_terminal_that_speaks_ascii_only_gets_ascii(used: Project) -> None:
    for words in (["executions", "list"], ["executions", "get", newest(used)], ["doctor"]):
        shown = on_a_terminal(used, *words, TERM="dumb", PYTHONIOENCODING="ascii")
        assert shown.isascii(), shown
        assert "+ " in shown


def test_a_message_cannot_steer_the_terminal(project: Project) -> None:
    (project.folder / "rude.py").write_text(
        "import kitaru\n"
        "@kitaru.flow\n"
        "def rude() -> str:\n    raise ValueError('\\x1b[2Jgone\\x07')\n"
    )
    assert "\x1b" not in project.run("run", "rude.py:rude").stderr
    assert "\x1b" not in project.run("executions", "get", newest(project)).stdout


def test_a_reader_that_leaves_is_no_error(used: Project) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen(
        [sys.executable, "-m", "kitaru", "executions", "list"],
        cwd=used.folder,
        env=used.environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(writing)
        _, err = process.communicate(timeout=MAX_SECONDS)
    assert (process.returncode, err) == (0, "")


def test_closed_streams_do_no_harm_to_the_store(used: Project) -> None:
    command = [sys.executable, "-m", "kitaru", "run", "shop.py:total", "--", "--count", "4"]
    shell = 'exec "$@" <&- >&- 2>&-'
    done = subprocess.run(
        ["/bin/sh", "-c", shell, "sh", *command],
        cwd=used.folder,
        env=used.environment(),
        timeout=MAX_SECONDS,
        check=False,
    )
    assert done.returncode == 0
    assert used.ask("status")["item"]["executions"] == {"completed": 3}


def test_a_full_disk_behind_stdout_is_an_error(used: Project) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "kitaru", "status", "-o", "json"],
            cwd=used.folder,
            env=used.environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=MAX_SECONDS,
            check=False,
        )
    assert done.returncode == 1
    assert last_line(done.stderr)["command"] == "status"


# --- the pieces -------------------------------------------------------------------------------


def test_json_is_one_ascii_line_whatever_it_holds() -> None:
    line = json_line({"nan": float("nan"), "lone": "\ud800", "lines": "a\nb", 1: (2,)})
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line) == {"nan": "nan", "lone": "\ud800", "lines": "a\nb", "1": [2]}


def test_control_characters_are_made_visible_and_text_is_left_alone() -> None:
    assert cleaned("größe\t1\n") == "größe\t1\n"
    assert cleaned("\x1b]0;x\x07\u202e") == "\\x1b]0;x\\x07\\u202e"


def test_our_frames_are_left_out_of_a_traceback() -> None:
    ours = os.path.dirname(sys.modules["kitaru"].__file__ or "")
    text = (
        "Traceback (most recent call last):\n"
        f'  File "{ours}/_engine/effects.py", line 1, in perform\n'
        "    value = fn()\n"
        "            ^^^^\n"
        '  File "/home/me/shop.py", line 2, in buy\n'
        "    raise ValueError\n"
        "ValueError: no\n"
    )
    shown = without_our_frames(text)
    assert "effects.py" not in shown
    assert "value = fn()" not in shown
    assert 'File "/home/me/shop.py", line 2, in buy\n    raise ValueError\nValueError: no' in shown
