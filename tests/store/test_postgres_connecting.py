"""Which servers are refused, what the address decides, and a pooler or TLS in between."""

from __future__ import annotations

import os
import subprocess
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests import needed, postgres
from tests.pooler import pooling
from tools import postgres_server

from kitaru._core.lifecycle import State
from kitaru._store.address import Address
from kitaru._store.postgres.database import Database
from kitaru._store.postgres.store import PostgresStore
from kitaru._store.protocol import Record, RegisterOwner
from kitaru.env import SystemEnv
from kitaru.errors import KitaruBackendError, KitaruUsageError

from .worlds import call_row, facts, new_owner, started, work_through


def refused(url: str) -> KitaruBackendError:
    with pytest.raises(KitaruBackendError) as caught:
        Database(url).connect()
    return caught.value


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("-c default_transaction_read_only=on", "takes no writes"),
        ("-c synchronous_commit=off", "alter role"),
    ],
)
def test_a_server_that_would_lose_or_refuse_writes_is_refused(
    postgres_url: str, options: str, words: str
) -> None:
    error = refused(make_conninfo(postgres_url, options=options))
    assert error.code == "server-unfit"
    assert words in str(error)


def test_a_database_without_room_for_every_text_is_refused(postgres_server: str) -> None:
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(
            "create database kitaru_ascii template template0 encoding 'SQL_ASCII'"
            " lc_collate 'C' lc_ctype 'C'"
        )
        try:
            error = refused(postgres.named(postgres_server, "kitaru_ascii"))
        finally:
            connection.execute("drop database kitaru_ascii with (force)")
    assert error.code == "server-unfit"
    assert "UTF8" in str(error)


def test_a_server_that_lets_nobody_in_is_told_from_one_that_is_away(postgres_url: str) -> None:
    assert refused(postgres.named(postgres_url, "no_such")).code == "store-may-not-be-used"
    without_tls = refused(make_conninfo(postgres_url, sslmode="require"))
    assert without_tls.code == "store-may-not-be-used"
    assert "SSL" in str(without_tls)
    direct = {"sslmode": "require", "sslnegotiation": "direct"}
    assert refused(make_conninfo(postgres_url, **direct)).code == "store-may-not-be-used"
    assert refused(make_conninfo(postgres_url, port="1", **direct)).code == "store-away"
    assert refused(make_conninfo(postgres_url, port="1")).code == "store-away"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://db:door/app", "a port is a number"),
        ("postgresql://db:99999/app", "a port is a number"),
        ("service=no_such dbname=app", "leads to no server"),
    ],
)
def test_an_address_that_leads_nowhere_is_no_server_that_is_away(url: str, says: str) -> None:
    with pytest.raises(KitaruUsageError, match=says) as caught:
        Database(url).connect()
    assert caught.value.code == "store-place-invalid"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://db/app?sslmod=require", "no option 'sslmod'. Did you mean 'sslmode'?"),
        ("host=db ssl_mode=require", "no option 'ssl_mode'. Did you mean 'sslmode'?"),
        ("postgresql://me:s3/c?sslmod=cret@db/app", "libpq understands: write"),
    ],
)
def test_an_option_that_is_misspelt_is_named_if_it_can_be_no_secret(url: str, says: str) -> None:
    with pytest.raises(KitaruUsageError) as caught:
        Database(url)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cr@t@db/app",
        "postgresql://me:s3/cret@db/app",
        "postgresql://me:s3cret@db:port/app?no=such",
        "host=db password='s3cret",
        "host=db password=s3cret oops",
    ],
)
def test_an_address_that_libpq_does_not_understand_is_refused_without_its_password(
    url: str,
) -> None:
    with pytest.raises(KitaruUsageError) as caught:
        Database(url)
    assert caught.value.code == "store-place-invalid"
    assert "s3" not in str(caught.value)


def test_no_variable_of_a_traceback_holds_the_password() -> None:
    database = Database(Address("postgresql://me:s3" + "cret@127.0.0.1:1/app"))
    with pytest.raises(KitaruBackendError) as caught:
        database.connect()
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert "_connector" in "".join(told.format())
    assert "s3cret" not in "".join(told.format())


def test_each_connection_has_its_bounds_and_the_address_may_set_them(postgres_url: str) -> None:
    shown = "select current_setting('lock_timeout'), current_setting('statement_timeout')"
    with Database(postgres_url).connect() as connection:
        assert connection.execute(shown).fetchone() == ("15s", "25s")
        assert not connection.is_pooled
    url = make_conninfo(postgres_url, options="-c statement_timeout=7s")
    with Database(url).connect() as connection:
        assert connection.execute(shown).fetchone() == ("15s", "7s")
    with Database(postgres_url).connect(bounded=False) as connection:
        assert connection.execute(shown).fetchone() == ("0", "0")


def test_no_statement_is_compiled_unless_the_address_says_so(postgres_url: str) -> None:
    with Database(postgres_url).connect() as connection:
        assert connection.execute("show jit").fetchone() == ("off",)
    url = make_conninfo(postgres_url, options="-c jit=on")
    with Database(url).connect() as connection:
        assert connection.execute("show jit").fetchone() == ("on",)


@pytest.fixture
def pooled_url(postgres_url: str, tmp_path: Path) -> Iterator[str]:
    with pooling(postgres_url) as url:
        yield url


@pytest.mark.slow
def test_behind_a_transaction_pooler_everything_works_and_nothing_is_left_in_a_session(
    pooled_url: str,
) -> None:
    failures: list[BaseException] = []
    stores = [PostgresStore.open(pooled_url, env=SystemEnv(), project="demo") for _ in range(3)]
    assert "through a pooler" in stores[0].examine(seconds=1)["connection"]
    threads = [
        threading.Thread(target=work_through, args=(store, f"w{n}", failures))
        for n, store in enumerate(stores)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert failures == []
    assert stores[0].count_executions(project="demo") == {State.COMPLETED: 36}
    for store in stores:
        store.close()
    with psycopg.connect(pooled_url, autocommit=True, prepare_threshold=None) as connection:
        left = connection.execute(
            "select current_setting('statement_timeout'), count(*) from pg_prepared_statements"
            " where from_sql is false and statement like '%kitaru.%'"
        ).fetchone()
    assert left == ("0", 0)


@pytest.mark.slow
def test_behind_a_pooler_a_server_connection_that_is_lost_is_got_over(
    pooled_url: str, postgres_url: str
) -> None:
    store = PostgresStore.open(pooled_url, env=SystemEnv(), project="demo")
    row = started(store, new_owner(store).id).row
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
    store.apply(Record(row.id, 1, facts(call_row(bytes(32)))))
    owner = store.apply(RegisterOwner("lock-2", 1, "here", at=1))
    assert owner.lock_name == "lock-2"
    assert len(store.load_outcomes(row.id)) == 1
    store.close()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "major"), [("embedded", 18), ("pixeltable", 16), ("system", 0)])
def test_lives_go_their_way_on_every_version_that_can_be_had(kind: str, major: int) -> None:
    if kind == "system":
        needed.system_postgres()
    with postgres_server.running(kind) as server:
        store = PostgresStore.open(server.url(), env=SystemEnv(), project="demo")
        version = store.info()["postgresql_version"]
        assert major in (0, int(version.split(".")[0]))
        failures: list[BaseException] = []
        work_through(store, "one", failures)
        assert failures == [], version
        store.close()


def certificate(folder: Path, name: str) -> None:
    """A certificate for 127.0.0.1 that vouches for itself."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt")),
        ],
        check=True,
        capture_output=True,
    )


def put(path: Path, content: bytes, like: Path) -> Path:
    """A file that the server may read: it trusts no key that others may."""
    path.write_bytes(content)
    path.chmod(0o600)
    owner = like.stat()
    os.chown(path, owner.st_uid, owner.st_gid)
    return path


@pytest.mark.slow
def test_tls_is_checked_as_the_address_says(tmp_path: Path) -> None:
    needed.program("openssl")
    needed.system_postgres()
    certificate(tmp_path, "ours")
    certificate(tmp_path, "other")
    with postgres_server.running("system") as server:
        for end in ("key", "crt"):
            put(
                server.data / f"server.{end}",
                (tmp_path / f"ours.{end}").read_bytes(),
                like=server.data,
            )
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("alter system set ssl = on")
        server.restart()
        url: dict[str, Any] = {"sslmode": "verify-full"}
        trusted = make_conninfo(server.url(), sslrootcert=str(tmp_path / "ours.crt"), **url)
        store = PostgresStore.open(trusted, env=SystemEnv(), project="demo")
        assert store.examine(seconds=1)["connection"].endswith("127.0.0.1, encrypted")
        started(store, new_owner(store).id)
        store.close()
        other = make_conninfo(server.url(), sslrootcert=str(tmp_path / "other.crt"), **url)
        error = refused(other)
        assert error.code == "store-may-not-be-used"
        assert "certificate" in str(error)
