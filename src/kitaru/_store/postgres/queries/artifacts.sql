-- Artifacts: what checkpoints saved by name beside their results.

-- name: add_artifact
-- event: none (owned)
with held as materialized (
    select id from kitaru.executions
    where id = $1 and epoch = $2 and status in ('running', 'cancelling')
    for share)
insert into kitaru.artifacts (
    execution, call, attempt, name, save_type, tags, at, codec, data, checksum)
select id, $3, $4, $5, $6, $7, $8, $9, $10, $11 from held

-- name: list_artifacts
-- Without the values.
select a.id, e.exec_id, a.call, a.attempt, a.name, a.save_type, a.tags, a.at, a.codec, a.checksum
from kitaru.artifacts as a join kitaru.executions as e on e.id = a.execution
where a.id in (
    select id from kitaru.artifacts where execution = $1 and ($2::text is null or name = $2)
    order by id limit $3)
order by a.id

-- name: list_lent_artifacts
-- From a call to the one that it was copied from, which is older, to the one whose body ran.
with recursive origin (call, id) as (
    select identity, reused_from from kitaru.calls
    where execution = $1 and reused_from < id and source in ('reused', 'carried')
    union all
    select o.call, c.reused_from from origin as o join kitaru.calls as c on c.id = o.id
    where c.reused_from < c.id and c.source in ('reused', 'carried'))
select o.call, a.id, e.exec_id, a.call, a.attempt, a.name, a.save_type, a.tags, a.at, a.codec,
    a.checksum
from origin as o
join kitaru.calls as c on c.id = o.id
join kitaru.artifacts as a on a.execution = c.execution and a.call = c.identity
    and a.attempt = c.attempt and ($2::text is null or a.name = $2)
join kitaru.executions as e on e.id = a.execution
order by a.id, o.call limit $3

-- name: find_artifact
select a.id, e.exec_id, a.call, a.attempt, a.name, a.save_type, a.tags, a.at, a.codec, a.data,
    a.checksum
from kitaru.artifacts as a join kitaru.executions as e on e.id = a.execution
where a.id = $1
