-- Housekeeping: executions are deleted and swept, blobs are dropped.

-- name: list_expired
-- In the order in which their time was over; ?2, ?3: after this one.
select * from kitaru.execution_rows as e
where keep_seconds is not null and ended_at is not null
    and ended_at + keep_seconds * 1000000 <= $1
    and (ended_at + keep_seconds * 1000000, id) > ($2, $3)
    and status in ('completed', 'failed', 'cancelled')
    and (parent_exec_id is null
        or not exists (select 1 from kitaru.executions as p where p.exec_id = e.parent_exec_id))
order by ended_at + keep_seconds * 1000000, id limit $4

-- name: is_needed
-- Whether somebody unfinished needs it: its parent, or a replay of it.
select exists (
    select 1 from kitaru.executions as p
    where p.exec_id = $1 and p.status not in ('completed', 'failed', 'cancelled'))
or exists (
    select 1 from kitaru.executions as o
    where o.original_exec_id = $2 and o.status not in ('completed', 'failed', 'cancelled'))

-- name: bury
insert into kitaru.tombstones (
    exec_id, execution, project, flow_id, flow_name, status, created_at, started_at, ended_at,
    deleted_at)
select exec_id, id, project, flow_id, flow_name, status, created_at, started_at, ended_at, $2
from kitaru.executions
where id = $1 and status in ('completed', 'failed', 'cancelled')
on conflict (exec_id) do update
set execution = excluded.execution, project = excluded.project, flow_id = excluded.flow_id,
    flow_name = excluded.flow_name, status = excluded.status, created_at = excluded.created_at,
    started_at = excluded.started_at, ended_at = excluded.ended_at,
    deleted_at = excluded.deleted_at, swept = 0

-- name: delete_execution
delete from kitaru.executions
where id = $1 and epoch = $2 and status in ('completed', 'failed', 'cancelled')

-- name: forget_execution
delete from kitaru.memories where project = $1 and scope_type = 'execution' and scope = $2

-- name: count_deleted
update kitaru.meta
set executions_deleted = executions_deleted + $1, calls_deleted = calls_deleted + $2

-- name: list_unswept
select exec_id from kitaru.tombstones where swept = 0 order by execution limit $1

-- name: unswept
select execution from kitaru.tombstones where exec_id = $1 and swept = 0

-- name: keep_sources
-- What others have reused of these rows is named in words from now on.
insert into kitaru.gone_calls (id, exec_id, identity)
select c.id, $2, c.identity from kitaru.calls as c
where c.id in (select jsonb_array_elements_text($1::jsonb)::bigint)
    and exists (select 1 from kitaru.calls as r where r.reused_from = c.id)
on conflict do nothing

-- name: pick_calls
select id from kitaru.calls where execution = $1 order by id limit $2

-- name: newest_call
-- A sequence gives no number again: no row has to be kept for that.
select null::bigint

-- name: sweep_calls
delete from kitaru.calls where id in (select jsonb_array_elements_text($1::jsonb)::bigint)

-- name: empty_call
-- The newest row keeps its number, so that no other ever has it; nothing else of it stays.
update kitaru.calls
set execution = 0, identity = decode(md5(random()::text), 'hex'), arguments = '{}', inputs = null, reuse_key = null,
    code = null, reused_from = null, reason = '', metadata = null, codec = 'json', data = '',
    named = null, branch = ''
where id = $1

-- name: sweep_nobodys_calls
-- Rows that were emptied before, now that newer ones hold the numbers.
delete from kitaru.calls
where id in (select id from kitaru.calls where execution = 0) and id < (select max(id) from kitaru.calls)

-- name: sweep_attempts
delete from kitaru.attempts where id in (select id from kitaru.attempts where execution = $1 order by id limit $2)

-- name: sweep_learnt
delete from kitaru.learnt where id in (select id from kitaru.learnt where execution = $1 order by id limit $2)

-- name: sweep_notes
delete from kitaru.notes where id in (select id from kitaru.notes where execution = $1 order by id limit $2)

-- name: sweep_waits
delete from kitaru.waits where id in (select id from kitaru.waits where execution = $1 order by id limit $2)

-- name: sweep_intents
delete from kitaru.intents where id in (select id from kitaru.intents where execution = $1 order by id limit $2)

-- name: sweep_artifacts
delete from kitaru.artifacts where id in (select id from kitaru.artifacts where execution = $1 order by id limit $2)

-- name: mark_swept
update kitaru.tombstones set swept = 1 where execution = $1

-- name: tombstone
select exec_id, project, flow_id, flow_name, status, created_at, started_at, ended_at, deleted_at
from kitaru.tombstones where exec_id = $1

-- name: blob_is_named
select exists (select 1 from kitaru.calls where checksum = $1 and data is null)
    or exists (select 1 from kitaru.executions where inputs_checksum = $1 and inputs_data is null)
    or exists (select 1 from kitaru.executions where result_checksum = $1 and result_data is null
        and result_checksum is not null)
    or exists (select 1 from kitaru.attempts where checksum = $1 and data is null)
    or exists (select 1 from kitaru.waits where default_checksum = $1 and default_data is null
        and default_checksum is not null)
    or exists (select 1 from kitaru.waits where checksum = $1 and data is null and checksum is not null)
    or exists (select 1 from kitaru.artifacts where checksum = $1 and data is null)
    or exists (select 1 from kitaru.memories where checksum = $1 and data is null
        and checksum is not null)

-- name: list_named_blobs
select checksum from kitaru.calls where data is null
union select inputs_checksum from kitaru.executions where inputs_data is null
union select result_checksum from kitaru.executions
    where result_data is null and result_checksum is not null
union select checksum from kitaru.attempts where data is null
union select default_checksum from kitaru.waits
    where default_data is null and default_checksum is not null
union select checksum from kitaru.waits where data is null and checksum is not null
union select checksum from kitaru.artifacts where data is null
union select checksum from kitaru.memories where data is null and checksum is not null
