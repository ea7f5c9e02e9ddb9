"""What the tests of transactional checkpoints share: a table of the user's beside the record."""

from __future__ import annotations

import psycopg

TABLE = "create table paid (id bigserial primary key, what text not null, exec_id text)"


def paid(url: str) -> list[str]:
    """What is in the user's table, in the order of writing."""
    with psycopg.connect(url) as connection:
        rows = connection.execute("select what from paid order by id").fetchall()
    return [what for (what,) in rows]


def recorded(url: str, state: str = "completed") -> int:
    """How many outcomes of that kind are on record, in the whole store."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "select count(*) from kitaru.calls where state = %s", (state,)
        ).fetchone()
    assert found is not None
    return int(found[0])


def connections(url: str) -> int:
    """How many connections this database has, but for the one that looks."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "select count(*) from pg_stat_activity where datname = current_database() "
            "and pid <> pg_backend_pid() and backend_type = 'client backend'"
        ).fetchone()
    assert found is not None
    return int(found[0])
