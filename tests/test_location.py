from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kitaru._store.location import (
    Location,
    find_store,
    prepare,
    project_name,
)
from kitaru.errors import KitaruBackendError, KitaruFeatureNotAvailableError, KitaruUsageError

IS_ROOT = os.geteuid() == 0
MAC = sys.platform == "darwin"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    return folder


def said(folder: Path) -> Location:
    return Location(str(folder), "said", "KITARU_STORE", str(folder))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_store_of_a_project_lies_in_its_root(home: Path) -> None:
    (home / "app").mkdir()
    (home / "app/pyproject.toml").touch()
    found = find_store(None, cwd="/", main_file=str(home / "app/main.py"))
    assert found.folder == str(home / "app/.kitaru")
    assert (found.kind, found.root) == ("project", str(home / "app"))
    assert not os.path.exists(found.folder)


def test_a_program_outside_every_project_has_its_store_in_the_users_data_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = home / ("Library/Application Support" if MAC else ".local/share") / "kitaru"
    found = find_store(None, cwd=str(home), main_file=None)
    assert found.kind == "user"
    assert Path(found.folder).parent == data
    assert Path(found.folder).name.startswith("home-")
    assert found.root == str(home)

    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    assert find_store(None, cwd=str(home), main_file=None).folder.startswith(str(home / "data/"))
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert Path(find_store(None, cwd=str(home), main_file=None).folder).parent == data


def test_programs_in_two_folders_outside_every_project_do_not_share_a_store(home: Path) -> None:
    (home / "a").mkdir()
    (home / "b").mkdir()
    places = [find_store(None, cwd=str(home / name), main_file=None).folder for name in "aab"]
    assert places[0] == places[1] != places[2]


def test_the_setting_wins_and_names_the_folder_itself(home: Path) -> None:
    found = find_store("here", cwd=str(home), main_file=None, said_by="KITARU_STORE")
    assert found[:4] == (str(home / "here"), "said", "KITARU_STORE", str(home))
    assert find_store("~/x", cwd="/", main_file=None).folder == str(home / "x")
    assert find_store("/srv/x/../y", cwd="/", main_file=None).folder == "/srv/y"


@pytest.mark.parametrize("store", ["", "  ", "a\0b", "mysql://db/x", "sqlite:///x.db"])
def test_what_can_be_no_folder_is_refused(home: Path, store: str) -> None:
    with pytest.raises(KitaruUsageError, match="KITARU_STORE"):
        find_store(store, cwd=str(home), main_file=None, said_by="KITARU_STORE")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cret@db/app",
        "postgres://me:s3cret@db:5432/app?sslmode=require",
        "postgresql://me:s3cret/with@slash@db/app",
        "postgresql://:s3cret@db/app",
        "postgresql://db/app?user=me&password=s3cret",
        "PostgreSQL://me:s3cret@db/app",
    ],
)
def test_a_database_is_found_by_its_url_and_its_password_is_not_shown(home: Path, url: str) -> None:
    found = find_store(url, cwd=str(home), main_file=None, said_by="KITARU_STORE")
    assert found.address is not None
    assert "s3cret" not in repr(found) + found.place + f"{found.address}"
    assert "***" in found.place
    assert "s3cret" in found.address.secret()
    assert found.kind == "said"
    assert not os.path.exists(found.folder)


def test_what_a_machine_keeps_beside_a_database_is_the_same_for_every_password(home: Path) -> None:
    urls = ["postgresql://me:one@db/app", "postgresql://me:two@db/app", "postgresql://me:one@db/b"]
    places = [find_store(url, cwd=str(home), main_file=None).folder for url in urls]
    assert places[0] == places[1] != places[2]


def test_beside_a_database_no_home_folder_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr("kitaru._store.location.home_folder", lambda: None)
    assert "kitaru-of-" in find_store("postgresql://db/app", cwd="/", main_file=None).folder


def test_the_project_of_a_database_must_be_said() -> None:
    place = find_store("postgresql://me:s3cret@db/app", cwd="/", main_file=None)
    with pytest.raises(KitaruUsageError, match="KITARU_PROJECT") as caught:
        project_name(None, place)
    assert caught.value.code == "project-not-said"
    assert "s3cret" not in str(caught.value)
    assert project_name("shop", place) == "shop"


def test_windows_is_refused_at_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(KitaruFeatureNotAvailableError, match="Windows"):
        find_store(None, cwd=str(home), main_file=None)


def test_the_folder_is_made_once_and_the_notice_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = said(tmp_path / "deep/er/.kitaru")
    assert prepare(place) is True
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"kitaru: made the store {place.folder}, ")
    assert told.err.count("\n") == 1
    assert prepare(place) is False
    assert capsys.readouterr().err == ""


def test_the_folder_is_private_and_ignored_by_git_whatever_the_umask(tmp_path: Path) -> None:
    for umask in (0o000, 0o777):
        folder = tmp_path / f"store-{umask}"
        before = os.umask(umask)
        try:
            prepare(said(folder))
        finally:
            os.umask(before)
        assert mode_of(folder) == 0o700
        assert mode_of(folder / ".gitignore") == 0o600
        assert (folder / ".gitignore").read_text().splitlines()[-1] == "*"


def test_git_does_not_see_the_store(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    prepare(said(tmp_path / ".kitaru"))
    (tmp_path / ".kitaru/something").touch()
    status = subprocess.run(
        ["git", "-C", str(tmp_path), "status", "--porcelain"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert status.stdout == ""


def test_a_store_that_is_open_to_others_is_made_private(tmp_path: Path) -> None:
    folder = tmp_path / ".kitaru"
    folder.mkdir()
    folder.chmod(0o777)
    assert prepare(said(folder)) is False
    assert mode_of(folder) == 0o700
    assert (folder / ".gitignore").exists()


def test_an_empty_folder_may_become_a_store(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    assert prepare(said(tmp_path / "volume")) is False
    (tmp_path / "volume/database").touch()
    assert prepare(said(tmp_path / "volume")) is False


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "main.py").touch()
    (tmp_path / ".gitignore").write_text("*.pyc\n")
    before = mode_of(tmp_path)
    tmp_path.chmod(0o755)
    with pytest.raises(KitaruUsageError, match="holds other things"):
        prepare(said(tmp_path))
    assert mode_of(tmp_path) == 0o755
    assert (tmp_path / ".gitignore").read_text() == "*.pyc\n"
    tmp_path.chmod(before)


def test_an_ignore_file_half_written_by_a_dead_process_is_completed(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/.gitignore").write_text("# Made by")
    prepare(said(tmp_path / "store"))
    assert (tmp_path / "store/.gitignore").read_text().endswith("\n*\n")


def test_an_ignore_file_that_a_person_wrote_stays(tmp_path: Path) -> None:
    (tmp_path / ".kitaru").mkdir()
    (tmp_path / ".kitaru/.gitignore").write_text("# mine\n")
    prepare(said(tmp_path / ".kitaru"))
    assert (tmp_path / ".kitaru/.gitignore").read_text() == "# mine\n"


def test_a_file_in_place_of_the_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".kitaru").write_text("precious")
    with pytest.raises(KitaruUsageError, match="is a file"):
        prepare(said(tmp_path / ".kitaru"))
    assert (tmp_path / ".kitaru").read_text() == "precious"


def test_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".kitaru").symlink_to(tmp_path / "nowhere")
    with pytest.raises(KitaruUsageError, match="link to nothing"):
        prepare(said(tmp_path / ".kitaru"))


def test_a_link_to_a_folder_of_ones_own_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / ".kitaru").symlink_to(tmp_path / "real")
    assert prepare(said(tmp_path / ".kitaru")) is False
    assert (tmp_path / "real/.gitignore").exists()


@pytest.mark.skipif(not IS_ROOT, reason="only root can give files away")
@pytest.mark.parametrize("what", ["folder", "link to it", "link by another user"])
def test_a_store_of_another_user_is_refused(tmp_path: Path, what: str) -> None:
    real, store = tmp_path / "real", tmp_path / ".kitaru"
    real.mkdir()
    if what == "folder":
        store.mkdir()
        os.chown(store, 4321, -1)
    else:
        store.symlink_to(real)
        os.chown(real if what == "link to it" else store, 4321, -1, follow_symlinks=False)
    with pytest.raises(KitaruUsageError, match="belongs to user 4321"):
        prepare(said(store))
    assert list(real.iterdir()) == []


@pytest.mark.skipif(IS_ROOT, reason="root may write everywhere")
def test_a_place_that_is_not_writable_is_an_error_that_names_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(KitaruBackendError, match="KITARU_STORE"):
        prepare(said(tmp_path / ".kitaru"))
    tmp_path.chmod(0o700)


def test_a_place_below_a_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KitaruBackendError, match=r"file/x/\.kitaru"):
        prepare(said(tmp_path / "file/x/.kitaru"))


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no memory file system here")
def test_a_store_in_memory_is_made_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(f"/dev/shm/kitaru-test-{os.getpid()}")
    try:
        prepare(said(folder))
        assert "memory" in capsys.readouterr().err
    finally:
        (folder / ".gitignore").unlink()
        folder.rmdir()


def test_a_store_on_a_network_file_system_is_refused_before_anything_is_made(
    tmp_path: Path,
) -> None:
    with pytest.raises(KitaruUsageError, match=r"store.*nfs4.*KITARU_STORE"):
        prepare(said(tmp_path / "store"), kind_here=lambda folder: "nfs4")
    assert list(tmp_path.iterdir()) == []
    assert prepare(said(tmp_path / "store"), kind_here=lambda folder: None)


def test_many_processes_make_one_folder(tmp_path: Path) -> None:
    program = (
        "import sys; from kitaru._store.location import *; sys.stdin.read(1);"
        "made = prepare(Location(sys.argv[1], 'said', '', ''));"
        "open(sys.argv[1] + '/database', 'a').close(); print(made)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "a/b/store")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    ends = [(*process.communicate(), process.returncode) for process in processes]
    assert sorted(out for out, _, _ in ends) == ["False\n"] * 7 + ["True\n"], ends
    assert [code for _, _, code in ends] == [0] * 8


def rooted(root: str) -> Location:
    return Location("/data/store", "user", "…", root)


def test_a_projects_name_is_what_was_said_else_its_folders() -> None:
    assert project_name("said", rooted("/srv/app")) == "said"
    assert project_name(None, rooted("/srv/app/")) == "app"
    assert project_name(None, rooted("/srv/cafe\u0301")) == "café"
    assert project_name(None, rooted("/")) == "root"


def test_a_folder_whose_name_can_be_no_name_asks_for_one() -> None:
    with pytest.raises(KitaruUsageError, match="KITARU_PROJECT"):
        project_name(None, rooted("/srv/a\nb"))
