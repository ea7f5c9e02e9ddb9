-- Memories: durable state beyond one execution. A version is one more than the last, counted
-- inside the transaction.

-- name: add_memory
-- event: none (owned)
insert into memories (
    project, scope_type, scope, key, version, deleted, exec_id, identity, at, codec, data, checksum)
select project, ?3, ?4, ?5,
    1 + coalesce((
        select max(m.version) from memories as m
        where m.project = e.project and m.scope_type = ?3 and m.scope = ?4 and m.key = ?5), 0),
    ?8 is null, exec_id, ?6, ?7, ?8, ?9, ?10
from executions as e
where id = ?1 and epoch = ?2 and status in ('running', 'cancelling')

-- name: remember
insert into memories (
    project, scope_type, scope, key, version, deleted, identity, at, codec, data, checksum)
select ?1, ?2, ?3, ?4, 1 + coalesce(max(version), 0), ?7 is null, ?5, ?6, ?7, ?8, ?9
from memories
where project = ?1 and scope_type = ?2 and scope = ?3 and key = ?4
returning version

-- name: forget
delete from memories
where project = ?1 and scope_type = ?2 and scope = ?3 and (?4 is null or key = ?4)

-- name: find_memory
select scope_type, scope, key, identity, at, codec, data, checksum, version, exec_id
from memories
where project = ?1 and scope_type = ?2 and scope = ?3 and key = ?4 and (?5 is null or version = ?5)
order by version desc limit 1

-- name: list_memories
-- In each group the row with the greatest version gives the other columns.
select scope_type, scope, key, identity, at, codec, data, checksum, max(version), exec_id
from memories
where project = ?1 and scope_type = ?2 and scope = ?3
group by key
having deleted = 0
order by key limit ?4

-- name: list_versions
select scope_type, scope, key, identity, at, codec, data, checksum, version, exec_id
from memories
where project = ?1 and scope_type = ?2 and scope = ?3 and key = ?4
order by version desc limit ?5

-- name: list_scopes
select distinct scope_type, scope from memories
where project = ?1 order by scope_type, scope limit ?2
