-- Memories: durable state beyond one execution. A version is one more than the last, counted
-- inside the transaction, which holds the lock of the key (locks.sql).

-- name: add_memory
-- event: none (owned)
with held as materialized (
    select id, project, exec_id from kitaru.executions
    where id = $1 and epoch = $2 and status in ('running', 'cancelling')
    for share)
insert into kitaru.memories (
    project, scope_type, scope, key, version, deleted, exec_id, identity, at, codec, data, checksum)
select project, $3, $4, $5,
    1 + coalesce((
        select max(m.version) from kitaru.memories as m
        where m.project = e.project and m.scope_type = $3 and m.scope = $4 and m.key = $5), 0),
    ($8::text is null)::int, exec_id, $6, $7, $8, $9, $10
from held as e

-- name: remember
insert into kitaru.memories (
    project, scope_type, scope, key, version, deleted, identity, at, codec, data, checksum)
select $1, $2, $3, $4, 1 + coalesce(max(version), 0), ($7::text is null)::int, $5, $6, $7, $8, $9
from kitaru.memories
where project = $1 and scope_type = $2 and scope = $3 and key = $4
returning version

-- name: forget
delete from kitaru.memories
where project = $1 and scope_type = $2 and scope = $3 and ($4::text is null or key = $4)

-- name: find_memory
select scope_type, scope, key, identity, at, codec, data, checksum, version, exec_id
from kitaru.memories
where project = $1 and scope_type = $2 and scope = $3 and key = $4 and ($5::bigint is null or version = $5)
order by version desc limit 1

-- name: list_memories
select scope_type, scope, key, identity, at, codec, data, checksum, version, exec_id
from (
    select distinct on (key) * from kitaru.memories
    where project = $1 and scope_type = $2 and scope = $3
    order by key, version desc) as newest
where deleted = 0
order by key limit $4

-- name: list_versions
select scope_type, scope, key, identity, at, codec, data, checksum, version, exec_id
from kitaru.memories
where project = $1 and scope_type = $2 and scope = $3 and key = $4
order by version desc limit $5

-- name: list_scopes
select distinct scope_type, scope from kitaru.memories
where project = $1 order by scope_type, scope limit $2
