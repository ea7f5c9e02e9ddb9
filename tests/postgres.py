"""A PostgreSQL server for this process's tests, and fresh databases on it.

One a test process, from a wheel, started when the first test asks for it. What
``KITARU_TEST_POSTGRES_URL`` names is used instead: a role that may create databases.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tools import postgres_server
from tools.postgres_server import Server

_numbers = itertools.count()


def kind() -> str:
    """Which PostgreSQL: a wheel's (``embedded``, ``pixeltable``), the ``system``'s, or that of the
    folder with its programs."""
    return os.environ.get("KITARU_TEST_POSTGRES", "embedded")


@contextmanager
def serving() -> Iterator[str]:
    """The URL of a server's database ``postgres``."""
    said = os.environ.get("KITARU_TEST_POSTGRES_URL")
    if said:
        yield said
        return
    with postgres_server.running(kind()) as server:
        yield server.url()


def named(url: str, database: str) -> str:
    """The same server, another database."""
    return make_conninfo(url, dbname=database)


@contextmanager
def database(url: str, *, like: str | None = None) -> Iterator[str]:
    """A fresh database on that server, gone afterwards -> its connection string."""
    name = f"kitaru_{os.getpid()}_{next(_numbers)}"
    made = sql.SQL("create database {}").format(sql.Identifier(name))
    if like is not None:
        made += sql.SQL(" template {}").format(sql.Identifier(like))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(made)
    try:
        yield named(url, name)
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
            )


def give_time(url: str) -> None:
    """In this database leases are judged by the instants of the writes, from the next
    connection on: time is the test's."""
    name = conninfo_to_dict(url)["dbname"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("alter database {} set kitaru.clock = 'given'").format(
                sql.Identifier(str(name))
            )
        )


@cache
def version(url: str) -> str:
    with psycopg.connect(url) as connection:
        found = connection.execute("show server_version").fetchone()
    assert found is not None
    return str(found[0])


__all__ = ["Server", "database", "give_time", "kind", "named", "serving", "version"]
