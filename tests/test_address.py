"""The address of a database: what it is, and that its password is shown nowhere."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from kitaru._store.address import Address, is_address, masked
from kitaru.errors import KitaruUsageError
from kitaru.settings import configure, forget_configuration, resolve


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    forget_configuration()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("postgresql://me@db:5432/app", "postgresql://me@db:5432/app"),
        ("postgresql:///app?host=/run/pg", "postgresql:///app?host=/run/pg"),
        ("postgresql://me:s3cret@one:1,two:2/app", "postgresql://me:***@one:1,two:2/app"),
        ("postgresql://me:s3/cret@x@db/app", "postgresql://me:***@db/app"),
        ("postgresql://me:s3?cret@db/app", "postgresql://me:***@db/app"),
        ("postgresql://db:5432/app?user=me@corp", "postgresql://db:5432/app?user=me@corp"),
        ("postgresql://db/app?sslpassword=s3cret&a=b", "postgresql://db/app?sslpassword=***&a=b"),
        ("host=db password=s3cret user=me", "host=db password=*** user=me"),
        (r"host=db password='s3\' cret' user=me", "host=db password=*** user=me"),
        (r"password=s3\ cret user=me", "password=*** user=me"),
        ("host=db PASSWORD = s3cret", "host=db PASSWORD = ***"),
        ("host=db password='s3cret never ends", "host=db password=***"),
    ],
)
def test_an_address_is_shown_without_what_is_secret(said: str, shown: str) -> None:
    assert masked(said) == shown
    address = Address(said)
    assert [str(address), f"{address}", address] == [shown] * 3
    assert repr(address) == repr(shown)
    assert address.secret() == said


def test_a_copy_of_an_address_knows_the_password_too() -> None:
    copied = pickle.loads(pickle.dumps(Address("postgresql://me:s3cret@db/app")))
    assert copied.secret() == "postgresql://me:s3cret@db/app"


def test_libpq_is_told_the_scheme_as_it_writes_it() -> None:
    assert Address("PostgreSQL://me@db/app").secret() == "postgresql://me@db/app"
    assert Address("POSTGRES://me@db/app").secret() == "postgres://me@db/app"


@pytest.mark.parametrize("said", ["/srv/x", "x=y", "postgresql", "mysql://db/x", "a/host=b", ""])
def test_a_folder_is_no_address(said: str) -> None:
    assert not is_address(said)


def test_settings_keep_an_address_masked_whoever_said_it(tmp_path: Path) -> None:
    url = "postgresql://me:s3cret@db/app"
    by_variable = resolve(cwd=str(tmp_path), environ={"KITARU_STORE": url})
    (tmp_path / "pyproject.toml").write_text(f'[tool.kitaru]\nstore = "{url}"\n')
    by_file = resolve(cwd=str(tmp_path), environ={}, main_file=str(tmp_path / "main.py"))
    configure(store="host=db password=s3cret dbname=app")
    configured = resolve(cwd=str(tmp_path), environ={})
    for found in (by_variable, by_file, configured):
        assert isinstance(found.store, Address)
        assert "s3cret" not in repr(found)
        assert "s3cret" in found.store.secret()


def test_what_is_refused_shows_no_password_either(tmp_path: Path) -> None:
    with pytest.raises(KitaruUsageError) as caught:
        configure(store="postgresql://me:s3cret@db/app\0")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        "postgresql:/me:s3cret@db/app",
        "postgres//me:s3cret@db/app",
        "postgres:me:s3cret@db/app",
        "postgresql+psycopg://me:s3cret@db/app",
        " POSTGRES:///x",
    ],
)
def test_a_mistyped_address_is_refused_and_its_password_shown_nowhere(
    said: str, tmp_path: Path
) -> None:
    with pytest.raises(KitaruUsageError, match="write postgresql://USER@HOST/DATABASE") as caught:
        resolve(cwd=str(tmp_path), environ={"KITARU_STORE": said})
    assert caught.value.code == "store-place-invalid"
    assert "KITARU_STORE" in str(caught.value)
    assert "s3cret" not in str(caught.value)
