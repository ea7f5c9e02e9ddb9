-- Housekeeping: executions are deleted and swept, blobs are dropped.

-- name: list_expired
-- In the order in which their time was over; ?2, ?3: after this one.
select * from execution_rows as e
where keep_seconds is not null and ended_at is not null
    and ended_at + keep_seconds * 1000000 <= ?1
    and (ended_at + keep_seconds * 1000000, id) > (?2, ?3)
    and status in ('completed', 'failed', 'cancelled')
    and (parent_exec_id is null
        or not exists (select 1 from executions as p where p.exec_id = e.parent_exec_id))
order by ended_at + keep_seconds * 1000000, id limit ?4

-- name: is_needed
-- Whether somebody unfinished needs it: its parent, or a replay of it.
select exists (
    select 1 from executions as p
    where p.exec_id = ?1 and p.status not in ('completed', 'failed', 'cancelled'))
or exists (
    select 1 from executions as o
    where o.original_exec_id = ?2 and o.status not in ('completed', 'failed', 'cancelled'))

-- name: bury
insert into tombstones (
    exec_id, execution, project, flow_id, flow_name, status, created_at, started_at, ended_at,
    deleted_at)
select exec_id, id, project, flow_id, flow_name, status, created_at, started_at, ended_at, ?2
from executions
where id = ?1 and status in ('completed', 'failed', 'cancelled')
on conflict (exec_id) do update
set execution = excluded.execution, project = excluded.project, flow_id = excluded.flow_id,
    flow_name = excluded.flow_name, status = excluded.status, created_at = excluded.created_at,
    started_at = excluded.started_at, ended_at = excluded.ended_at,
    deleted_at = excluded.deleted_at, swept = 0

-- name: delete_execution
delete from executions
where id = ?1 and epoch = ?2 and status in ('completed', 'failed', 'cancelled')

-- name: forget_execution
delete from memories where project = ?1 and scope_type = 'execution' and scope = ?2

-- name: count_deleted
update meta
set executions_deleted = executions_deleted + ?1, calls_deleted = calls_deleted + ?2

-- name: list_unswept
select exec_id from tombstones where swept = 0 order by execution limit ?1

-- name: unswept
select execution from tombstones where exec_id = ?1 and swept = 0

-- name: keep_sources
-- What others have reused of these rows is named in words from now on.
insert into gone_calls (id, exec_id, identity)
select c.id, ?2, c.identity from calls as c
where c.id in (select value from json_each(?1))
    and exists (select 1 from calls as r where r.reused_from = c.id)
on conflict do nothing

-- name: pick_calls
select id from calls where execution = ?1 order by id limit ?2

-- name: newest_call
select max(id) from calls

-- name: sweep_calls
delete from calls where id in (select value from json_each(?1))

-- name: empty_call
-- The newest row keeps its number, so that no other ever has it; nothing else of it stays.
update calls
set execution = 0, identity = randomblob(16), arguments = '{}', inputs = null, reuse_key = null,
    code = null, reused_from = null, reason = '', metadata = null, codec = 'json', data = x'',
    named = null, branch = ''
where id = ?1

-- name: sweep_nobodys_calls
-- Rows that were emptied before, now that newer ones hold the numbers.
delete from calls
where id in (select id from calls where execution = 0) and id < (select max(id) from calls)

-- name: sweep_attempts
delete from attempts where id in (select id from attempts where execution = ?1 order by id limit ?2)

-- name: sweep_learnt
delete from learnt where id in (select id from learnt where execution = ?1 order by id limit ?2)

-- name: sweep_notes
delete from notes where id in (select id from notes where execution = ?1 order by id limit ?2)

-- name: sweep_waits
delete from waits where id in (select id from waits where execution = ?1 order by id limit ?2)

-- name: sweep_intents
delete from intents where id in (select id from intents where execution = ?1 order by id limit ?2)

-- name: sweep_artifacts
delete from artifacts where id in (select id from artifacts where execution = ?1 order by id limit ?2)

-- name: mark_swept
update tombstones set swept = 1 where execution = ?1

-- name: tombstone
select exec_id, project, flow_id, flow_name, status, created_at, started_at, ended_at, deleted_at
from tombstones where exec_id = ?1

-- name: blob_is_named
select exists (select 1 from calls where checksum = ?1 and data is null)
    or exists (select 1 from executions where inputs_checksum = ?1 and inputs_data is null)
    or exists (select 1 from executions where result_checksum = ?1 and result_data is null
        and result_checksum is not null)
    or exists (select 1 from attempts where checksum = ?1 and data is null)
    or exists (select 1 from waits where default_checksum = ?1 and default_data is null
        and default_checksum is not null)
    or exists (select 1 from waits where checksum = ?1 and data is null and checksum is not null)
    or exists (select 1 from artifacts where checksum = ?1 and data is null)
    or exists (select 1 from memories where checksum = ?1 and data is null
        and checksum is not null)

-- name: list_named_blobs
select checksum from calls where data is null
union select inputs_checksum from executions where inputs_data is null
union select result_checksum from executions
    where result_data is null and result_checksum is not null
union select checksum from attempts where data is null
union select default_checksum from waits
    where default_data is null and default_checksum is not null
union select checksum from waits where data is null and checksum is not null
union select checksum from artifacts where data is null
union select checksum from memories where data is null and checksum is not null
