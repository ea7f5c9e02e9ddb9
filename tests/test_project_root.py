from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kitaru._store.project import Root, _is_installed, find_root, read_table
from kitaru.errors import KitaruUsageError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.mark.parametrize("marker", [".kitaru", "pyproject.toml", ".git"])
def test_the_root_is_the_first_folder_upward_that_holds_a_marker(home: Path, marker: str) -> None:
    (folder(home / "work") / ".git").mkdir()
    (folder(home / "work/app") / marker).touch()
    script = folder(home / "work/app/jobs/nightly") / "main.py"
    assert find_root(cwd="/", main_file=str(script)) == Root(str(home / "work/app"), True)


def test_the_script_decides_and_not_the_working_folder(home: Path) -> None:
    (folder(home / "a") / ".git").touch()
    (folder(home / "b") / ".git").touch()
    script = home / "a" / "main.py"
    assert find_root(cwd=str(home / "b"), main_file=str(script)).folder == str(home / "a")


def test_without_a_script_the_working_folder_decides(home: Path) -> None:
    (folder(home / "b") / ".git").touch()
    assert find_root(cwd=str(home / "b"), main_file=None) == Root(str(home / "b"), True)


def test_a_script_that_is_a_link_lies_where_it_points_to(home: Path) -> None:
    (folder(home / "app") / "pyproject.toml").touch()
    (home / "app/tool.py").touch()
    (folder(home / "links") / "tool").symlink_to(home / "app/tool.py")
    found = find_root(cwd="/", main_file=str(home / "links/tool"))
    assert found.folder == str(home / "app")


def test_the_home_folder_and_those_above_it_are_never_the_root(home: Path) -> None:
    for marked in (home, home.parent):
        (marked / "pyproject.toml").touch()
        (marked / ".git").mkdir()
        (marked / ".kitaru").mkdir()
    for cwd in (home, home.parent, folder(home / "loose")):
        assert find_root(cwd=str(cwd), main_file=None) == Root(str(cwd), False)


def test_a_project_directly_below_the_home_folder_is_a_project(home: Path) -> None:
    (folder(home / "app") / "pyproject.toml").touch()
    assert find_root(cwd=str(home / "app"), main_file=None).marked


def test_a_folder_whose_name_begins_like_the_home_folder_is_not_above_it(home: Path) -> None:
    (folder(home.parent / "homestead") / ".git").touch()
    assert find_root(cwd=str(home.parent / "homestead"), main_file=None).marked


def test_a_home_folder_that_is_a_link_is_never_the_root(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = home.parent / "link"
    link.symlink_to(home)
    monkeypatch.setenv("HOME", str(link))
    (home / ".git").mkdir()
    assert not find_root(cwd=str(link), main_file=None).marked


@pytest.mark.parametrize(
    "inside",
    [
        "venv/bin",
        "venv/lib/python3.11/site-packages/tool",
        "lib/python3/dist-packages",
        ".local/bin",
    ],
)
def test_an_installed_script_counts_as_none(home: Path, inside: str) -> None:
    (home / "venv").mkdir()
    (home / "venv/pyvenv.cfg").touch()
    (folder(home / "app") / ".git").mkdir()
    script = folder(home / inside) / "tool"
    assert find_root(cwd=str(home / "app"), main_file=str(script)).folder == str(home / "app")


@pytest.mark.parametrize(
    "script", [os.path.join(sys.prefix, "bin", "pytest"), os.path.dirname(os.__file__) + "/pdb.py"]
)
def test_this_pythons_own_scripts_count_as_none(home: Path, script: str) -> None:
    (folder(home / "app") / ".git").mkdir()
    assert find_root(cwd=str(home / "app"), main_file=script).folder == str(home / "app")


def test_a_projects_own_bin_folder_is_no_environment(home: Path) -> None:
    (folder(home / "app/bin") / "../.git").mkdir()
    script = home / "app/bin/nightly.py"
    assert find_root(cwd="/", main_file=str(script)).folder == str(home / "app")


def test_a_script_in_a_zip_file_lies_beside_it(home: Path) -> None:
    archive = folder(home / "app") / "app.pyz"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("__main__.py", "")
    found = find_root(cwd="/", main_file=str(archive / "__main__.py"))
    assert found == Root(str(home / "app"), False)


@pytest.mark.parametrize(
    "text",
    [
        "[tool.kitaru]\ncache = false",
        "  [tool.kitaru] # ours\ncache = false",
        '[ tool . "kitaru" ]\ncache = false',
        "[tool]\nkitaru.cache = false",
        "[tool]\nkitaru = {cache = false}",
        "tool.kitaru.cache = false",
        "tool = {kitaru = {cache = false}}",
    ],
)
def test_every_spelling_of_the_table_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert read_table(str(tmp_path)) == {"cache": False}


def test_a_pyproject_that_does_not_speak_to_us_is_not_parsed(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["kitaru"]\nnot toml')
    program = (
        "import sys; from kitaru._store.project import read_table;"
        "assert read_table(sys.argv[1]) == {}; assert 'tomllib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


def test_a_project_without_pyproject_says_nothing(tmp_path: Path) -> None:
    assert read_table(str(tmp_path)) == {}
    (tmp_path / "pyproject.toml").mkdir()
    assert read_table(str(tmp_path)) == {}


@pytest.mark.parametrize(
    "text", ["[tool.kitaru\n", "[tool.kitaru]\na = 1\na = 2", "tool = {kitaru = 3}"]
)
def test_a_table_that_cannot_be_understood_is_an_error_that_names_the_file(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(KitaruUsageError, match=r"pyproject\.toml"):
        read_table(str(tmp_path))


def test_a_table_that_is_no_text_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_bytes(b"[tool.kitaru]\nx = '\xff'")
    with pytest.raises(KitaruUsageError, match=r"pyproject\.toml"):
        read_table(str(tmp_path))


@pytest.mark.parametrize("prefix", ["/opt/homebrew", "/home/linuxbrew/.linuxbrew", "/opt/local"])
def test_the_prefix_of_a_package_manager_is_no_project(prefix: str) -> None:
    # Homebrew's is a git checkout, so that `kitaru` installed there would record in it.
    assert _is_installed(f"{prefix}/bin")
    assert not _is_installed(f"{prefix}/app")
