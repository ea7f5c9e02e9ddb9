-- Schedules: when flows start by themselves. A schedule and its fire time are one row;
-- whoever moves `due_at` on starts the execution, in the same transaction.

-- name: rename_schedule
-- The flow had another id: what stood there is carried over, if nothing stands here.
update kitaru.schedules set flow_id = $2
where project = $1
    and flow_id = (
        select min(flow_id) from kitaru.schedules
        where project = $1 and flow_id in (select jsonb_array_elements_text($3::jsonb)))
    and not exists (select 1 from kitaru.schedules where project = $1 and flow_id = $2)

-- name: forget_schedules
delete from kitaru.schedules
where project = $1 and flow_id <> $2 and flow_id in (select jsonb_array_elements_text($3::jsonb))

-- name: set_schedule
insert into kitaru.schedules as s (
    project, flow_id, flow_name, cron, timezone, missed, spec, keep_seconds, code_folder,
    code_module, owner, due_at, said_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
on conflict (project, flow_id) do update
set flow_name = excluded.flow_name, cron = excluded.cron, timezone = excluded.timezone,
    missed = excluded.missed, spec = excluded.spec, keep_seconds = excluded.keep_seconds,
    code_folder = excluded.code_folder, code_module = excluded.code_module,
    owner = excluded.owner, said_at = excluded.said_at, dropped_at = null,
    due_at = case
        when s.cron = excluded.cron and s.timezone = excluded.timezone and s.dropped_at is null
            then least(s.due_at, excluded.due_at)
        else excluded.due_at end
returning project, flow_id, flow_name, cron, timezone, missed, spec, keep_seconds,
    code_folder, code_module, owner, said_at, due_at, fired_at, fired_exec_id, skipped,
    paused_at, dropped_at

-- name: drop_schedule
update kitaru.schedules set dropped_at = $4, due_at = null, owner = $3, said_at = $4
where project = $1 and flow_id = $2 and dropped_at is null

-- name: pause_schedule
update kitaru.schedules set paused_at = $3
where project = $1 and flow_id = $2 and paused_at is null

-- name: resume_schedule
update kitaru.schedules
set paused_at = null, due_at = case when dropped_at is null then $3::bigint end
where project = $1 and flow_id = $2 and paused_at is not null

-- name: remove_schedule
-- Not if it was said anew since it was looked at.
delete from kitaru.schedules where project = $1 and flow_id = $2 and said_at = $3

-- name: move_schedule
update kitaru.schedules set due_at = $4, skipped = skipped + $5
where project = $1 and flow_id = $2 and due_at = $3 and paused_at is null

-- name: note_fired
update kitaru.schedules set fired_at = $3, fired_exec_id = $4 where project = $1 and flow_id = $2

-- name: find_schedule
select project, flow_id, flow_name, cron, timezone, missed, spec, keep_seconds,
    code_folder, code_module, owner, said_at, due_at, fired_at, fired_exec_id, skipped,
    paused_at, dropped_at
from kitaru.schedules where project = $1 and flow_id = $2

-- name: list_schedules
select project, flow_id, flow_name, cron, timezone, missed, spec, keep_seconds,
    code_folder, code_module, owner, said_at, due_at, fired_at, fired_exec_id, skipped,
    paused_at, dropped_at
from kitaru.schedules where project = $1 order by flow_id limit $2
