"""A program and its commands on a store in PostgreSQL: found by a URL, looked at, refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo
from tests.conftest import end_app

import kitaru
from kitaru import KitaruClient, flow, opening, settings
from kitaru._store.address import Address
from kitaru._store.location import Location
from kitaru.env import SystemEnv
from kitaru.errors import KitaruBackendError, KitaruNotFoundError, KitaruUsageError

PROGRAM = """
import kitaru

@kitaru.checkpoint
def double(n: int) -> int:
    print("body", n)
    return 2 * n

@kitaru.flow
def doubled(n: int) -> int:
    return double(n)

if __name__ == "__main__":
    print(doubled.options(key="once").run(21).wait())
"""


@flow
def asks() -> bool:
    return bool(kitaru.wait(name="ok", schema=bool))


class Machine:
    """A folder with a program whose environment names the database."""

    def __init__(self, folder: Path, url: str, project: str = "shop") -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        (folder / "pyproject.toml").touch()
        (folder / "program.py").write_text(PROGRAM)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("KITARU_")}
        said = {"KITARU_STORE": url, "KITARU_PROJECT": project, "HOME": str(folder)}
        self.environment = {**kept, **{name: value for name, value in said.items() if value}}

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def kitaru(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "kitaru", *words)


def said_with_password(url: str) -> str:
    return make_conninfo(url, password="s3cret-not-asked")


@pytest.mark.slow
def test_a_flow_and_the_commands_work_on_a_database_and_show_no_password(
    tmp_path: Path, postgres_url: str
) -> None:
    machine = Machine(tmp_path / "one", said_with_password(postgres_url))
    first, again = machine.python("program.py"), machine.python("program.py")
    assert (first.stdout, again.stdout) == ("body 21\n42\n", "42\n"), first.stderr + again.stderr
    told = [first.stderr, again.stderr]
    for words in (["status"], ["store", "info"], ["doctor"], ["executions", "list"]):
        shown = machine.kitaru(*words)
        assert shown.returncode in (0, 1), shown.stderr
        told += [shown.stdout, shown.stderr]
    assert "PostgreSQL" in "".join(told)
    assert "doubled" in told[-2]
    assert "s3cret" not in "".join(told)
    backup = machine.kitaru("store", "backup")
    assert backup.returncode != 0
    assert "pg_dump" in backup.stderr


@pytest.mark.slow
def test_two_projects_in_one_database_do_not_see_each_other(
    tmp_path: Path, postgres_url: str
) -> None:
    shop = Machine(tmp_path / "one", postgres_url, project="shop")
    bank = Machine(tmp_path / "one", postgres_url, project="bank")
    # The same folder, flow, key, checkpoint and code: only the project differs.
    assert shop.python("program.py").stdout == "body 21\n42\n"
    assert bank.python("program.py").stdout == "body 21\n42\n"
    exec_ids = [
        [each["exec_id"] for each in json.loads(told.stdout)["items"]]
        for told in (each.kitaru("executions", "list", "-o", "json") for each in (shop, bank))
    ]
    assert [len(ids) for ids in exec_ids] == [1, 1]
    assert exec_ids[0] != exec_ids[1]
    assert "2 executions, 2 outcomes of calls in all projects\n" in bank.kitaru("status").stdout


def test_what_another_project_has_is_not_found_by_its_id(
    own_store: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a project could cancel, answer and delete what is another's."""
    monkeypatch.setenv("KITARU_STORE", postgres_url)
    monkeypatch.setenv("KITARU_PROJECT", "shop")
    exec_id = asks.enqueue().exec_id
    end_app()

    monkeypatch.setenv("KITARU_PROJECT", "bank")
    client = KitaruClient()
    asking: list[Callable[[], object]] = [
        lambda: client.executions.get(exec_id),
        lambda: client.executions.cancel(exec_id),
        lambda: client.executions.resume(exec_id),
        lambda: client.executions.input(exec_id, wait="ok", value=True),
        lambda: client.executions.delete(exec_id),
        lambda: client.executions.handle(exec_id),
        lambda: client.executions.list(before=exec_id),
        lambda: client.artifacts.list(exec_id),
        lambda: asks.handle(exec_id),
        lambda: asks.replay(exec_id),
    ]
    for ask in asking:
        with pytest.raises(KitaruNotFoundError, match="it belongs to project 'shop'") as caught:
            ask()
        assert caught.value.code == "execution-not-found"
    end_app()

    monkeypatch.setenv("KITARU_PROJECT", "shop")
    assert asks.handle(exec_id).status == "pending"


def test_a_project_must_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KITARU_PROJECT", raising=False)
    monkeypatch.setenv("KITARU_STORE", "postgresql://me:s3cret@127.0.0.1:1/app")
    with pytest.raises(KitaruUsageError) as caught:
        opening.open_store(SystemEnv())
    assert caught.value.code == "project-not-said"
    assert "s3cret" not in str(caught.value)


def test_a_server_that_is_not_there_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_STORE", "postgresql://me:s3cret@127.0.0.1:1/app")
    monkeypatch.setenv("KITARU_PROJECT", "shop")
    with pytest.raises(KitaruBackendError) as caught:
        opening.open_store(SystemEnv())
    assert caught.value.code == "store-away"
    assert "s3cret" not in str(caught.value)


def test_looking_makes_no_store(postgres_server: str, tmp_path: Path) -> None:
    from tests import postgres

    with postgres.database(postgres_server) as url:
        place = Location(str(tmp_path), "said", "KITARU_STORE", str(tmp_path), Address(url))
        assert not opening.is_made(place)
        assert not opening.is_made(place)


def test_the_tables_are_made_by_whoever_deploys_for_all_projects(
    postgres_server: str, tmp_path: Path
) -> None:
    from tests import postgres

    with postgres.database(postgres_server) as url:
        machine = Machine(tmp_path / "one", url, project="")
        made, again = machine.kitaru("store", "migrate"), machine.kitaru("store", "migrate")
        assert made.stdout.startswith("made the tables, schema "), made.stderr
        assert again.stdout.endswith("already: nothing to do\n"), again.stderr


def test_without_the_driver_the_command_that_installs_it_is_named(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "one", "postgresql://me:s3cret@127.0.0.1:1/app")
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from kitaru.cli import main\n"
        "sys.argv = ['kitaru', 'status']\n"
        "sys.exit(main())"
    )
    told = machine.python("-c", code)
    assert "psycopg[binary]" in told.stderr
    assert "driver-not-installed" in told.stderr
    assert "s3cret" not in told.stderr


def test_settings_show_the_address_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_STORE", "postgresql://me:s3cret@db/app")
    assert str(settings.resolve().store) == "postgresql://me:***@db/app"


@pytest.mark.slow
def test_what_was_printed_on_one_machine_is_read_on_another(
    tmp_path: Path, postgres_url: str
) -> None:
    one = Machine(tmp_path / "one", postgres_url)
    assert one.python("program.py").returncode == 0
    two = Machine(tmp_path / "two", postgres_url)
    listed = json.loads(two.kitaru("executions", "list", "-o", "json").stdout)
    exec_id = listed["items"][0]["exec_id"]
    assert "body 21" in two.kitaru("executions", "logs", exec_id).stdout
