-- Executions: their transitions, and how they are found.
-- Every transition names its events of lifecycle.TRANSITIONS; a test holds the
-- guards against that table.

-- name: start_execution
-- event: none (born)
-- Its number is one that was never given before, not even to one that was deleted since.
insert into executions (
    id, exec_id, project, flow_id, flow_name, key, inputs_digest, seed, spec, tags,
    code_folder, code_module, status, epoch, owner, home, created_at, started_at,
    parent_exec_id, parent_call, original_exec_id, deadline_at, keep_seconds,
    queue, priority, limit_key, due_at, inputs_codec, inputs_data, inputs_checksum)
select 1 + max(
        coalesce((select max(id) from executions), 0),
        coalesce((select max(execution) from tombstones), 0)),
    ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
    ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29
where (?14 is null or exists (select 1 from owners where id = ?14 and died_at is null))
    and (?30 is null or exists (
        select 1 from executions where exec_id = ?18 and epoch = ?30 and status = 'running'))
    -- What is under a limit is born running only after a look at the slots (?31).
    and (?14 is null or ?31 or not exists (
        select 1 from limits where project = ?2 and name in (?23, ?25)))
on conflict do nothing
returning id

-- name: claim_pending
-- event: claim
update executions
set status = 'running', epoch = epoch + 1, owner = ?3, started_at = coalesce(started_at, ?4),
    due_at = null
where id = ?1 and epoch = ?2 and status in ('pending')
    and exists (select 1 from owners where id = ?3 and died_at is null)
    and (due_at is null or due_at <= ?4)
    and not exists (
        select 1 from limits as l
        where l.project = executions.project
            and l.name in (executions.queue, executions.limit_key)
            and l.max <= (
                select count(*) from slots as s where s.project = l.project and s.name = l.name))
returning (
    select count(*) from limits as l
    where l.project = executions.project
        and l.name in (executions.queue, executions.limit_key))

-- name: take_over
-- event: take_over
update executions
set status = 'running', epoch = epoch + 1, owner = ?3,
    deaths = case when call_at_death < (
        select coalesce(max(id), 0) from calls where execution = ?1) then 1 else deaths + 1 end,
    call_at_death = (select coalesce(max(id), 0) from calls where execution = ?1)
where id = ?1 and epoch = ?2 and status in ('running') and owner = ?4 and owner <> ?3
    and exists (select 1 from owners where id = ?3 and died_at is null)
    and exists (
        select 1 from owners where id = ?4 and (died_at is not null or lease_until is null))

-- name: abandon
-- event: release
update executions
set status = 'pending', epoch = epoch + 1, owner = null,
    deaths = case when call_at_death < (
        select coalesce(max(id), 0) from calls where execution = ?1) then 1 else deaths + 1 end,
    call_at_death = (select coalesce(max(id), 0) from calls where execution = ?1)
where id = ?1 and epoch = ?2 and status in ('running') and owner = ?3
    and exists (
        select 1 from owners where id = ?3 and (died_at is not null or lease_until is null))

-- name: release
-- event: release
update executions
set status = 'pending', epoch = epoch + 1, owner = null, home = null, queued_at = ?3
where id = ?1 and epoch = ?2 and status in ('running')
returning exists (select 1 from slots where execution = ?1)

-- What ends an execution answers with its parent, and whether it has open waits, and slots.

-- name: complete
-- event: complete
update executions
set status = 'completed', owner = null, ended_at = ?3, status_reason = ?4, failed_attempt = null,
    failed_calls = '', result_codec = ?5, result_data = ?6, result_checksum = ?7
where id = ?1 and epoch = ?2 and status in ('running')
returning parent_exec_id,
    exists (select 1 from waits where execution = ?1 and state = 'open'),
    exists (select 1 from slots where execution = ?1)

-- name: fail
-- event: fail
update executions
set status = 'failed', owner = null, ended_at = ?3, status_reason = ?4, failed_attempt = attempt,
    failed_calls = ?5
where id = ?1 and epoch = ?2 and status in ('running')
returning parent_exec_id,
    exists (select 1 from waits where execution = ?1 and state = 'open'),
    exists (select 1 from slots where execution = ?1)

-- name: stopped
-- event: stopped
update executions
set status = 'cancelled', owner = null, ended_at = ?3
where id = ?1 and epoch = ?2 and status in ('cancelling')
returning parent_exec_id,
    exists (select 1 from waits where execution = ?1 and state = 'open'),
    exists (select 1 from slots where execution = ?1)

-- name: try_again
-- event: try_again
update executions
set status = 'running', attempt = attempt + 1, failed_attempt = attempt
where id = ?1 and epoch = ?2 and status in ('running')

-- name: retry
-- event: retry
update executions
set status = 'pending', attempt = attempt + 1, deaths = 0, failed_calls = '', ended_at = null,
    status_reason = null, deadline_at = ?3, queued_at = ?4
where id = ?1 and epoch = ?2 and status in ('failed')

-- name: give_up
-- event: give_up
update executions
set status = 'failed', ended_at = ?3, status_reason = ?4, failed_attempt = attempt,
    failed_calls = '', due_at = null
where id = ?1 and epoch = ?2 and status in ('pending', 'waiting')
returning parent_exec_id,
    exists (select 1 from waits where execution = ?1 and state = 'open'),
    exists (select 1 from slots where execution = ?1)

-- name: park
-- event: park
-- The scalar min() is null if either is: each stands in for the other.
update executions
set status = 'waiting', epoch = epoch + 1, owner = null, home = ?3, status_reason = ?4,
    due_at = min(coalesce(?5, deadline_at), coalesce(deadline_at, ?5))
where id = ?1 and epoch = ?2 and status in ('running')
returning exists (select 1 from slots where execution = ?1)

-- name: wake
-- event: wake
-- Something has arrived; the epoch was read in the same transaction.
update executions
set status = 'pending', due_at = null, status_reason = null, queued_at = ?3
where id = ?1 and epoch = ?2 and status in ('waiting')

-- name: wake_due
-- event: wake
update executions
set status = 'pending', due_at = null, status_reason = null, queued_at = ?3
where id = ?1 and epoch = ?2 and status in ('waiting') and due_at <= ?3

-- name: cancel_running
-- event: cancel
update executions
set status = 'cancelling', status_reason = ?3
where id = ?1 and epoch = ?2 and status in ('running')

-- name: cancel_idle
-- event: cancel
update executions
set status = 'cancelled', status_reason = ?3, ended_at = ?4, due_at = null
where id = ?1 and epoch = ?2 and status in ('pending', 'waiting')
returning parent_exec_id,
    exists (select 1 from waits where execution = ?1 and state = 'open'),
    exists (select 1 from slots where execution = ?1)

-- name: family
-- An execution and all that descends from it, as it stands.
with recursive members (id, exec_id, epoch, status) as (
    select id, exec_id, epoch, status from executions where id = ?1
    union
    select e.id, e.exec_id, e.epoch, e.status
    from executions as e join members as m on e.parent_exec_id = m.exec_id)
select id, exec_id, epoch, status from members order by id <> ?1, id

-- name: waiting_epoch
-- The epoch of an execution that is waiting.
select id, epoch from executions where exec_id = ?1 and status = 'waiting'

-- name: child_is_finished
-- Whether one of these (JSON list) is finished, or is not here at all.
select exists (
    select 1 from json_each(?1) as child
    where not exists (
        select 1 from executions
        where exec_id = child.value and status not in ('completed', 'failed', 'cancelled')))

-- name: set_metadata
-- event: none (owned)
update executions
set metadata = ?3
where id = ?1 and epoch = ?2 and status in ('running', 'cancelling')

-- name: is_owned
-- event: none (owned)
select 1 from executions where id = ?1 and epoch = ?2 and status in ('running', 'cancelling')

-- name: add_attempt
-- The failure of the attempt that the execution has just come to the end of.
insert into attempts (execution, attempt, ended_at, codec, data, checksum)
select id, failed_attempt, ?2, ?3, ?4, ?5 from executions where id = ?1

-- name: execution_by_id
select * from execution_rows where id = ?1

-- name: execution_by_exec_id
select * from execution_rows where exec_id = ?1

-- name: execution_by_key
select * from execution_rows where project = ?1 and flow_id = ?2 and key = ?3

-- name: list_due
-- ?4 JSON list of owners: what these serve is passed over.
select * from execution_rows
where project = ?1 and status = 'waiting' and due_at <= ?2
    and coalesce(home, 0) not in (select value from json_each(?4))
order by due_at, id limit ?3

-- name: next_due
select due_at from executions
where project = ?1 and status = 'waiting' and due_at is not null
order by due_at limit 1

-- name: list_owned
select exec_id, status, id from executions
where owner = ?1 and status in (select value from json_each(?2))
order by id

-- name: list_served
select * from execution_rows
where home = ?1 and status = 'pending' and project = ?2
order by id limit ?3

-- name: list_children
select * from execution_rows where parent_exec_id = ?1 order by id limit ?2

-- name: child_by_call
select * from execution_rows where parent_exec_id = ?1 and parent_call = ?2

-- name: status_of
select status, epoch, owner from executions where id = ?1

-- name: search_executions
select * from execution_rows
where project = ?1 and instr(exec_id, ?2) > 0
order by id desc limit ?3

-- name: list_executions
-- ?2 flow id or name, ?3 below this row id, ?5 from this row id on, ?6 key: each may be null.
select * from execution_rows
where project = ?1
    and (?2 is null or flow_id = ?2 or flow_name = ?2)
    and id < coalesce(?3, 9223372036854775807)
    and id >= coalesce(?5, 0)
    and (?6 is null or key = ?6)
order by id desc limit ?4

-- name: list_by_status
-- The same of some states, ?7 JSON list: each by itself, so that few of one are not looked for
-- among many of another.
select * from execution_rows
where id in (
    select e.id from json_each(?7) as wanted join executions as e on e.id in (
        select q.id from executions as q
        where q.project = ?1 and q.status = wanted.value and q.status <> ''
            and (?2 is null or q.flow_id = ?2 or q.flow_name = ?2)
            and q.id < coalesce(?3, 9223372036854775807)
            and q.id >= coalesce(?5, 0)
            and (?6 is null or q.key = ?6)
        order by q.id desc limit ?4))
order by id desc limit ?4

-- name: first_from
select id from executions where exec_id >= ?1 order by exec_id limit 1

-- name: list_heads
select exec_id, flow_id, flow_name, status, created_at from executions
where project = ?1 order by id desc limit ?2

-- name: count_recorded
-- The newest number that was given, less those that are gone.
select
    (select max(
        coalesce((select max(id) from executions), 0),
        coalesce((select max(execution) from tombstones), 0)) - executions_deleted from meta),
    (select coalesce((select max(id) from calls), 0) - calls_deleted from meta),
    (select count(*) from executions where id >= ?1),
    -- Nobody's stand under 0.
    (select count(*) from calls where execution >= max(?1, 1))

-- name: list_unfinished
-- ?4 JSON list of owners: what these run or serve is passed over.
select * from execution_rows
where project = ?1 and flow_id in (select value from json_each(?2))
    and status in ('pending', 'running', 'cancelling')
    and coalesce(owner, home, 0) not in (select value from json_each(?4))
order by id limit ?3

-- name: count_executions
select status, count(*) from executions where project = ?1 and status <> '' group by status

-- name: list_attempts
select attempt, ended_at, codec, data, checksum from attempts where execution = ?1 order by attempt
