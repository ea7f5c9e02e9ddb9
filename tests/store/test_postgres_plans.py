"""No query over the tables that grow reads more of PostgreSQL's rows than it has to."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg
import pytest
from tests import postgres

from kitaru._store.postgres.store import PostgresStore
from kitaru._store.queries import parse
from kitaru.env import SystemEnv

from .test_postgres_queries import POSTGRES

# As many rows as make a planner choose what it will choose with a thousand times as many.
FILL = """
insert into kitaru.executions (epoch, status, exec_id, project, flow_id, flow_name,
    created_at, inputs_digest, seed, spec, tags, inputs_codec, inputs_data, inputs_checksum,
    ended_at, keep_seconds, parent_exec_id, parent_call, original_exec_id)
select 1, case when n%100=0 then 'waiting' when n%100=1 then 'pending' else 'completed' end,
    'e-'||n, 'demo', 'demo.f'||n%10, 'f', n, 'x', 'x', '{}', '[]', 'json', '1', 'c', n, case
    when n%3=0 then 100 end, case when n%5=0 then 'e-'||n/5 end, case when n%5=0 then
    int8send(n) end, case when n%50=0 then 'e-'||n-1 end from generate_series(1, 20000) n;
insert into kitaru.calls(execution, identity, attempt, state, source, seq, place, n,
    checkpoint, parent_attempt, branch, arguments, inputs_digest, reason, started_at,
    ended_at, codec, data, checksum, reuse_key, reused_from)
select n%20000+1, int8send(n), 1, 'completed', 'ran', 0, 0, 0, 'c', 0, '', '{}', 'x', 'r',
    1, 2, 'json', '1', 'c', int8send(n), case when n%10=0 then n-5 end from
    generate_series(1, 100000) n;
insert into kitaru.waits(execution, identity, kind, state, label, branch, opened_at) select
    n, int8send(n), 'input', case when n%100=0 then 'open' else 'answered' end, 'l', '', n
    from generate_series(1, 20000) n;
insert into kitaru.memories(project, scope_type, scope, key, version, at) select 'demo',
    'flow', 'f'||n%100, 'k'||n/200, 1+(n/100)%2, n from generate_series(1, 20000) n;
insert into kitaru.owners(lock_name, pid, host, started_at, died_at, lease_until) select
    'l'||n, 1, 'h', 1, case when n>20 then 5 end, 9 from generate_series(1, 2000) n;
insert into kitaru.artifacts(execution, call, attempt, name, save_type, tags, at, codec,
    data, checksum) select n, int8send(n), 1, 'a', 'x', '', 1, 'json', '1', 'c' from
    generate_series(1, 20000) n;
insert into kitaru.notes(execution, kind, message, at) select n, 'x', 'y', 1 from
    generate_series(1, 20000) n;
insert into kitaru.learnt(execution, identity, kind, value) select n, 'x', 'y', '1' from
    generate_series(1, 20000) n;
insert into kitaru.attempts(execution, attempt, ended_at, codec, data, checksum) select n,
    1, 1, 'json', '1', 'x' from generate_series(1, 20000) n;
insert into kitaru.tombstones(exec_id, execution, project, flow_id, flow_name, status,
    created_at, deleted_at, swept) select 't'||n, 100000+n, 'demo', 'f', 'f', 'completed',
    1, 2, case when n%1000=0 then 0 else 1 end from generate_series(1, 20000) n;
"""

GROWING = "executions|calls|waits|memories|artifacts|attempts|learnt|notes|tombstones|owners"

WHOLE = {"count_executions"}
"""Of rows as narrow as these. Of wider ones it reads the index of their status."""

INDEX_OF = {
    "add_call": "calls_by_identity",
    "load_outcomes": "calls_by_identity",
    "load_payloads": "calls_by_identity",
    "list_calls": "calls_by_identity",
    "find_reusable": "calls_by_reuse_key",
    "start_execution": "executions_by_key",
    "execution_by_key": "executions_by_key",
    "list_unfinished": "executions_unfinished",
    "list_queues": "Index Only Scan using executions_queued",
    "list_by_status": "executions_by_status",
    "list_interrupted": "executions_owned",
    "list_claimable": "executions_keyed",
    "signs": "executions_queued",
    "count_owned": "executions_owned",
    "claim_next": "executions_queued",
    "claim_chosen": "executions_pkey",
    "lock_group": "executions_pkey",
    "list_due": "executions_waiting",
    "next_due": "executions_waiting",
    "list_owned": "executions_owned",
    "list_executions": "executions_by_project",
    "list_heads": "executions_by_project",
    "list_served": "executions_served",
    "list_children": "executions_by_parent",
    "child_by_call": "executions_by_parent",
    "family": "executions_by_parent",
    "list_expired": "executions_kept",
    "is_needed": "executions_by_original",
    "keep_sources": "calls_by_source",
    "list_open_waits": "waits_by_opening",
    "abort_waits": "waits_open",
    "list_unswept": "tombstones_unswept",
    "reap": "owners_alive",
    "blob_is_named": "blobs_of_calls",
    "list_named_blobs": "blobs_of_calls",
}

STATEMENTS = {
    name: sql
    for text in POSTGRES.values()
    for name, sql in parse(text).items()
    if not sql.startswith("lock table")
}


@pytest.fixture(scope="module")
def filled(postgres_server: str) -> Iterator[psycopg.Connection[tuple[str]]]:
    with postgres.database(postgres_server) as url:
        PostgresStore.open(url, env=SystemEnv(), project="demo").close()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(FILL)
            connection.execute("vacuum analyze")
            # The plan that a prepared statement comes to, whatever its parameters.
            connection.execute("set plan_cache_mode = force_generic_plan")
            yield connection


def plan(connection: psycopg.Connection[tuple[str]], name: str) -> str:
    sql = STATEMENTS[name]
    count = max((int(number) for number in re.findall(r"\$(\d+)", sql)), default=0)
    nulls = f"({', '.join(['null'] * count)})" if count else ""
    connection.execute(f"prepare it as {sql}".encode())
    try:
        lines = connection.execute(f"explain execute it{nulls}".encode()).fetchall()
    finally:
        connection.execute("deallocate it")
    return "\n".join(line for (line,) in lines)


@pytest.mark.slow
def test_no_query_reads_the_whole_of_a_table_that_grows(
    filled: psycopg.Connection[tuple[str]],
) -> None:
    assert len(STATEMENTS) > 100
    scan = re.compile(rf"Seq Scan on (?:{GROWING})\b")
    found = {name for name in STATEMENTS if scan.search(plan(filled, name))}
    assert found == WHOLE


@pytest.mark.slow
def test_each_query_uses_the_index_that_is_there_for_it(
    filled: psycopg.Connection[tuple[str]],
) -> None:
    plans = {name: plan(filled, name) for name in INDEX_OF}
    assert {name for name, index in INDEX_OF.items() if index not in plans[name]} == set()
