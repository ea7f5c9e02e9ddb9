from __future__ import annotations

import dataclasses
import inspect
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import setting_values
from kitaru import settings as module
from kitaru._core.limits import DEFAULT_LIMITS
from kitaru.errors import KitaruUsageError
from kitaru.settings import (
    BUILT_IN,
    Choice,
    Settings,
    configure,
    default_cache,
    forget_configuration,
    resolve_cache,
    resolve_retries,
    say,
)

SOURCES = Path(kitaru.__file__).parent


@pytest.fixture(autouse=True)
def _nothing_configured() -> Iterator[None]:
    forget_configuration()
    yield
    forget_configuration()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    return tmp_path


def resolve(root: Path, pyproject: str = "", **environ: str) -> Settings:
    if pyproject:
        (root / "pyproject.toml").write_text(f"[tool.kitaru]\n{pyproject}\n")
    return module.resolve(cwd=str(root), main_file=str(root / "main.py"), environ=environ)


# --- who wins ---------------------------------------------------------------------------


def test_what_nobody_says_is_built_in(root: Path) -> None:
    found = resolve(root)
    assert found.cache is True
    assert (found.retries, found.max_concurrency, found.runner) == (0, 32, "thread")
    assert (found.store, found.project, found.at_exit) == (None, None, "finish")
    assert found.at_exit_seconds is None
    assert set(found.origin.values()) == {"built-in"}


def test_configure_wins_over_the_environment_and_that_over_pyproject(root: Path) -> None:
    pyproject = "retries = 1\nmax_concurrency = 1\ncache = false"
    configure(retries=3)
    found = resolve(root, pyproject, KITARU_RETRIES="2", KITARU_MAX_CONCURRENCY="2")
    assert (found.retries, found.max_concurrency, found.cache) == (3, 2, False)
    assert found.origin["retries"] == "configure()"
    assert found.origin["max_concurrency"] == "KITARU_MAX_CONCURRENCY"
    assert found.origin["cache"] == f"[tool.kitaru] in {root / 'pyproject.toml'}"
    assert found.origin["runner"] == "built-in"


def test_every_option_can_be_said_in_every_place(root: Path) -> None:
    values: dict[str, Any] = {
        "store": "/srv/store",
        "project": "weather",
        "cache": "refresh",
        "retries": 4,
        "runner": "thread",
        "max_concurrency": 7,
        "max_transactions": 3,
        "at_exit": "leave",
        "at_exit_seconds": 2.5,
        "full_traceback": True,
        "logs": False,
        "max_log_bytes": 100_000,
        "max_log_folder_bytes": 1_000_000,
        "objects": "s3://bucket/prefix",
        "lease_seconds": 2.0,
        "poll_seconds": 0.25,
        "limits": {"max_depth": 150},
    }
    assert set(values) == set(BUILT_IN)
    names = {f"KITARU_{name.upper()}": str(value) for name, value in values.items()}
    names["KITARU_LIMITS"] = "max_depth=150"
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items() if name != "limits"]
    table = "\n".join([*lines, "limits = { max_depth = 150 }"])
    expected = values | {"limits": DEFAULT_LIMITS._replace(max_depth=150)}
    for found in (resolve(root, **names), resolve(root, table)):
        assert {name: getattr(found, name) for name in values} == expected
        assert "built-in" not in found.origin.values()
    configure(**values)
    assert set(resolve(root).origin.values()) == {"configure()"}


def test_options_settings_and_checks_are_the_same_names() -> None:
    fields = {field.name for field in dataclasses.fields(Settings)} - {"origin", "queue_limits"}
    parameters = set(inspect.signature(configure).parameters) - {"unknown"}
    assert fields == parameters == set(BUILT_IN) == set(setting_values.CHECKS)


@pytest.mark.skipif(
    not (SOURCES / "flows.py").exists(), reason="without flows nothing reads settings"
)
@pytest.mark.parametrize("option", sorted(set(BUILT_IN) - {"runner"}))
def test_an_option_that_nothing_reads_does_not_exist(option: str) -> None:
    # `runner` is read by `Settings.enqueues`.
    reads = re.compile(rf"(?<!self)\.{option}\b|\b(default|resolve)_{option}\(")
    texts = [
        path.read_text() for path in SOURCES.rglob("*.py") if not path.name.startswith("setting")
    ]
    assert any("settings" in text and reads.search(text) for text in texts), (
        f"nothing in src/ reads settings.{option}: use it, or take the option out"
    )


# --- configure ------------------------------------------------------------------------------


def test_configure_adds_to_what_was_said_before(root: Path) -> None:
    configure(retries=1, cache=False)
    configure(retries=2, cache=None)
    found = resolve(root)
    assert (found.retries, found.cache) == (2, False)


def test_configure_takes_all_or_nothing(root: Path) -> None:
    with pytest.raises(KitaruUsageError):
        configure(project="fine", retries=-1)
    assert resolve(root).project is None


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(KitaruUsageError, match="'max_concurency'; did you mean 'max_concurrency'"):
        configure(max_concurency=3)  # type: ignore[arg-type]
    with pytest.raises(KitaruUsageError, match="there are store, project, cache"):
        configure(zzz=None)  # type: ignore[arg-type]


def test_who_runs_what_is_started_is_this_process_or_a_worker(root: Path) -> None:
    assert resolve(root).runner == "thread"
    configure(runner="worker")
    assert resolve(root).runner == "worker"
    with pytest.raises(KitaruUsageError, match='pass "thread" or "worker"'):
        configure(runner="robot")


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("store", 3, "folder"),
        ("store", "", "folder"),
        ("store", "a\0b", "folder"),
        ("store", b"x", "folder"),
        ("project", "", "empty"),
        ("project", "a\nb", "seen"),
        ("project", 7, "str"),
        ("cache", 1, '"refresh"'),
        ("cache", 0.0, '"refresh"'),
        ("cache", "no", '"refresh"'),
        ("retries", -1, "0 to 999,999"),
        ("retries", True, "0 to 999,999"),
        ("retries", 10**9, "0 to 999,999"),
        ("retries", 1.0, "0 to 999,999"),
        ("runner", "threads", '"thread"'),
        ("max_concurrency", 0, "1 to 10,000"),
        ("max_concurrency", True, "1 to 10,000"),
        ("max_concurrency", "8", "1 to 10,000"),
        ("max_concurrency", 10**9, "1 to 10,000"),
        ("max_transactions", 0, "1 to 1,000"),
        ("at_exit", "wait", '"finish" or "leave"'),
        ("at_exit", True, '"finish" or "leave"'),
        ("at_exit_seconds", -1, "0 to 1,000,000,000"),
        ("at_exit_seconds", math.nan, "0 to 1,000,000,000"),
        ("at_exit_seconds", 1e300, "0 to 1,000,000,000"),
        ("at_exit_seconds", True, "0 to 1,000,000,000"),
        ("at_exit_seconds", "5", "0 to 1,000,000,000"),
        ("lease_seconds", 1.9, "2 to 3,600"),
        ("poll_seconds", 0, "0.1 to 60"),
        ("full_traceback", "refresh", "True or False"),
        ("logs", "refresh", "True or False"),
        ("max_log_bytes", 1000, "from 65,536 to 17,179,869,184"),
        ("max_log_folder_bytes", True, "from 65,536"),
    ],
)
def test_a_wrong_value_names_the_option_the_value_and_what_is_allowed(
    option: str, value: Any, allowed: str
) -> None:
    with pytest.raises(KitaruUsageError) as caught:
        configure(**{option: value})
    message = str(caught.value)
    assert message.startswith(f"configure(): {option}")
    assert allowed in message


def test_a_command_line_speaks_in_its_own_name(root: Path) -> None:
    say("--store", {"store": "/srv/x"})
    found = resolve(root)
    assert (found.store, found.origin["store"]) == ("/srv/x", "--store")


def test_a_relative_store_belongs_to_the_folder_of_who_said_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "sub").mkdir()
    found = module.resolve(
        cwd=str(root / "sub"), main_file=str(root / "main.py"), environ={"KITARU_STORE": "s"}
    )
    assert found.store == str(root / "sub/s")
    assert resolve(root, "store = 's'").store == str(root / "s")
    monkeypatch.chdir(root / "sub")
    configure(store=Path("s"))
    monkeypatch.chdir(root)
    assert resolve(root).store == str(root / "sub/s")


def test_a_database_url_is_left_as_it_is(root: Path) -> None:
    configure(store="postgresql://db/app")
    assert resolve(root).store == "postgresql://db/app"


# --- the environment -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [(t, True) for t in ("1", "true", "yes", "on", "TRUE", "On")]
    + [(t, False) for t in ("0", "false", "no", "off", "False")]
    + [("refresh", "refresh"), ("Refresh", "refresh")],
)
def test_a_switch_has_these_spellings(root: Path, text: str, value: object) -> None:
    assert resolve(root, KITARU_CACHE=text).cache is value or value == "refresh"
    assert resolve(root, KITARU_CACHE=text).cache == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("KITARU_CACHE", "maybe"),
        ("KITARU_CACHE", "2"),
        ("KITARU_CACHE", " true"),
        ("KITARU_RETRIES", "-1"),
        ("KITARU_RETRIES", "1.5"),
        ("KITARU_RETRIES", "1_000"),
        ("KITARU_RETRIES", "٣"),
        ("KITARU_RETRIES", "9" * 5000),
        ("KITARU_MAX_CONCURRENCY", "0"),
        ("KITARU_MAX_CONCURRENCY", "many"),
        ("KITARU_AT_EXIT", "no"),
        ("KITARU_AT_EXIT_SECONDS", "nan"),
        ("KITARU_AT_EXIT_SECONDS", "1e3"),
        ("KITARU_AT_EXIT_SECONDS", "-1"),
        ("KITARU_PROJECT", " "),
        ("KITARU_RUNNER", "ray"),
    ],
)
def test_a_wrong_variable_is_named(root: Path, variable: str, text: str) -> None:
    with pytest.raises(KitaruUsageError, match=f"^{variable}"):
        resolve(root, **{variable: text})


def test_a_variable_that_is_set_to_nothing_says_nothing(root: Path) -> None:
    assert resolve(root, KITARU_CACHE="").origin["cache"] == "built-in"


def test_an_unknown_variable_is_said_once_with_the_nearest(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        resolve(root, KITARU_CAHCE="0", PATH="x")
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == (
        "kitaru: the variable KITARU_CAHCE is no option of Kitaru; "
        "did you mean 'KITARU_CACHE'? It has no effect.\n"
    )


# --- pyproject.toml --------------------------------------------------------------------------


def test_an_unknown_key_is_said_once_with_the_nearest(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        resolve(root, "max-concurrency = 3")
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"{root / 'pyproject.toml'} has 'max-concurrency'" in told
    assert "did you mean 'max_concurrency'?" in told


@pytest.mark.parametrize(
    "line", ["cache = 'no'", "retries = 1.0", "store = 3", "at_exit = false", "project = ['x']"]
)
def test_a_wrong_value_in_pyproject_names_the_file_and_the_option(root: Path, line: str) -> None:
    with pytest.raises(KitaruUsageError, match=f"pyproject.toml: {line.split()[0]}"):
        resolve(root, line)


# --- cache and retries -------------------------------------------------------------------------

DEFAULT = Choice(True, "KITARU_CACHE")


@pytest.mark.parametrize(
    ("checkpoint", "run", "expected"),
    [
        (None, None, DEFAULT),
        (True, None, Choice(True, "@checkpoint(cache=True)")),
        (False, None, Choice(False, "@checkpoint(cache=False)")),
        (None, True, Choice(True, "run(cache=True)")),
        (None, False, Choice(False, "run(cache=False)")),
        (True, False, Choice(False, "run(cache=False)")),
        (False, True, Choice(False, "@checkpoint(cache=False)")),
        (False, "refresh", Choice(False, "@checkpoint(cache=False)")),
        (True, "refresh", Choice("refresh", "run(cache='refresh')")),
    ],
)
def test_the_precedence_of_cache(checkpoint: Any, run: Any, expected: Choice) -> None:
    assert resolve_cache(checkpoint=checkpoint, run=run, default=DEFAULT) == expected


def test_an_executions_default_is_the_flows_else_the_settings(root: Path) -> None:
    found = resolve(root, KITARU_CACHE="off", KITARU_RETRIES="2")
    assert default_cache(flow=None, settings=found) == Choice(False, "KITARU_CACHE")
    assert default_cache(flow=True, settings=found) == Choice(True, "@flow(cache=True)")
    assert resolve_retries(run=None, flow=None, settings=found) == Choice(2, "KITARU_RETRIES")
    assert resolve_retries(run=None, flow=0, settings=found) == Choice(0, "@flow(retries=0)")
    assert resolve_retries(run=0, flow=3, settings=found) == Choice(0, "run(retries=0)")


# --- in a real process ---------------------------------------------------------------------------


def test_a_real_script_is_heard_wherever_it_is_started(root: Path) -> None:
    (root / "pyproject.toml").write_text("[tool.kitaru]\nretries = 5\n")
    (root / "jobs").mkdir()
    (root / "jobs/main.py").write_text(
        "from kitaru.settings import resolve; print(resolve().retries, resolve().cache)"
    )
    ran = subprocess.run(
        [sys.executable, str(root / "jobs/main.py")],
        cwd="/",
        env={**os.environ, "KITARU_CACHE": "0", "KITARU_CACH": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "5 False\n"
    assert ran.stderr.count("KITARU_CACH ") == 1


def test_a_working_folder_that_is_gone_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(KitaruUsageError, match="working folder"):
        module.resolve(environ={})


def test_settings_import_nothing_heavy() -> None:
    program = (
        "import sys, kitaru.settings; kitaru.settings.resolve();"
        "heavy = {'tomllib', 'difflib', 'asyncio', 'pydantic', 'apsw', 'unicodedata', 'email'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd="/")


# --- limits -------------------------------------------------------------------------------


def test_limits_are_said_one_by_one_and_the_others_stay(root: Path) -> None:
    assert resolve(root).limits == (64 << 20, 100, 200)
    said = "limits = { max_depth = 120, max_name_characters = 300 }"
    assert resolve(root, said).limits == (64 << 20, 120, 300)
    found = resolve(root, said, KITARU_LIMITS="max_depth=130, max_payload_bytes=2048")
    assert found.limits == (2048, 130, 300)
    configure(limits={"max_depth": 140})
    configure(limits={"max_payload_bytes": 4096})
    found = resolve(root, said, KITARU_LIMITS="max_depth=130, max_payload_bytes=2048")
    assert found.limits == (4096, 140, 300)
    assert found.origin["limits"] == "configure()"
    assert str(found.limits) == "max_payload_bytes=4096, max_depth=140, max_name_characters=300"


def test_limits_of_queues_and_keys_are_the_names_that_are_no_limits_of_values(root: Path) -> None:
    assert resolve(root).queue_limits == {}
    said = "limits = { gpu = 2, max_depth = 120 }"
    assert resolve(root, said).queue_limits == {"gpu": 2}
    configure(limits={"openai": 5, "gpu": None})
    found = resolve(root, said, KITARU_LIMITS="slow=0")
    assert found.queue_limits == {"gpu": None, "slow": 0, "openai": 5}
    assert found.limits.max_depth == 120


def test_limits_have_a_table_of_their_own_in_pyproject(root: Path) -> None:
    (root / "pyproject.toml").write_text("[tool.kitaru.limits]\nmax_depth = 120\n")
    assert resolve(root).limits.max_depth == 120


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"max_dept": 5}, "'max_dept' is no limit; did you mean 'max_depth'"),
        ({"gpu": -1}, "gpu=-1: pass a whole number from 0 to 10,000"),
        ({"gpu": 10_001}, "from 0 to 10,000"),
        ({"gpu": "2"}, "from 0 to 10,000"),
        ({"": 1}, "names neither a queue nor a key"),
        ({"a\nb": 1}, "names neither a queue nor a key"),
        ({"q" * 201: 1}, "names neither a queue nor a key"),
        ({"max_depth": 0}, "max_depth=0: pass a whole number from 10 to 200"),
        ({"max_depth": 201}, "from 10 to 200"),
        ({"max_depth": True}, "from 10 to 200"),
        ({"max_depth": 100.0}, "from 10 to 200"),
        ({"max_payload_bytes": 10**12}, "from 1,024 to 1,073,741,824"),
        ({"max_name_characters": 100}, "from 200 to 1,000"),
        ({5: 5}, "5 is no limit"),
        ("max_depth", "name each limit"),
        (150, "name each limit"),
    ],
)
def test_a_wrong_limit_is_refused_and_changes_nothing(root: Path, value: Any, said: str) -> None:
    with pytest.raises(KitaruUsageError, match=said):
        configure(limits=value)
    assert resolve(root).limits == (64 << 20, 100, 200)


@pytest.mark.parametrize("text", ["max_depth", "max_depth=", "max_depth=x", "150", "max_dept=150"])
def test_a_variable_that_spells_no_limits_is_refused(root: Path, text: str) -> None:
    with pytest.raises(KitaruUsageError, match="KITARU_LIMITS"):
        resolve(root, KITARU_LIMITS=text)


def test_limits_hold_for_names_at_once() -> None:
    from kitaru._core.names import check_name

    with pytest.raises(KitaruUsageError, match="use at most 200"):
        check_name("flow", "x" * 250)
    configure(limits={"max_name_characters": 250})
    assert check_name("flow", "x" * 250) == "x" * 250
    with pytest.raises(KitaruUsageError, match="use at most 250"):
        check_name("flow", "x" * 251)
