-- Artifacts: what checkpoints saved by name beside their results.

-- name: add_artifact
-- event: none (owned)
insert into artifacts (
    execution, call, attempt, name, save_type, tags, at, codec, data, checksum)
select id, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11 from executions
where id = ?1 and epoch = ?2 and status in ('running', 'cancelling')

-- name: list_artifacts
select a.id, e.exec_id, a.call, a.attempt, a.name, a.save_type, a.tags, a.at, a.codec, a.data,
    a.checksum
from artifacts as a join executions as e on e.id = a.execution
where a.id in (
    select id from artifacts where execution = ?1 and (?2 is null or name = ?2)
    order by id limit ?3)
order by a.id

-- name: find_artifact
select a.id, e.exec_id, a.call, a.attempt, a.name, a.save_type, a.tags, a.at, a.codec, a.data,
    a.checksum
from artifacts as a join executions as e on e.id = a.execution
where a.id = ?1
