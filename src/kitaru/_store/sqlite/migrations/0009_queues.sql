-- Queues: what is enqueued, by whom it may be claimed, and how many run at once.

alter table executions add column queue text not null default 'default';

-- Higher first.
alter table executions add column priority integer not null default 0;

-- What shares a limit with others of other queues or flows; null: nothing.
alter table executions add column limit_key text;

-- How many executions of a queue, or with a key, run at once: both share one name space.
create table limits (
    project text not null,
    name text not null,
    max integer not null check (max >= 0),
    primary key (project, name)
) strict, without rowid;

-- A place among those, held exactly while the execution is owned: taken in the
-- transaction of the claim, given back in the one that lets go. A row and not a count.
create table slots (
    project text not null,
    name text not null,
    number integer not null check (number >= 1),
    execution integer not null references executions (id),
    primary key (project, name, number)
) strict, without rowid;

create index slots_by_execution on slots (execution);

-- Live processes that claim what is queued.
create table workers (
    owner integer primary key references owners (id),
    project text not null,
    name text not null,
    -- JSON lists. No queue: all of them.
    flows text not null,
    queues text not null,
    concurrency integer not null,
    draining integer not null default 0 check (draining in (0, 1)),
    at integer not null
) strict;

-- What claims read: each lane (flow, queue, priority) in its order, by age; the rest of
-- what they ask stands here too, so that rows are read of what is claimed, and no other.
create index executions_queued on executions (
    project, flow_id, queue, priority desc, (coalesce(due_at, created_at)), id, limit_key, home)
    where status = 'pending' and deaths < 2;

-- Those run alone in their process.
create index executions_suspect on executions (project, flow_id)
    where status = 'pending' and deaths >= 2;

-- By status too, so that what runs is found beside any number of pending ones.
drop index executions_unfinished;
create index executions_unfinished on executions (project, flow_id, status)
    where status in ('pending', 'running', 'cancelling');

drop view execution_rows;

create view execution_rows as
select
    e.id, e.exec_id, e.project, e.flow_id, e.flow_name, e.status, e.status_reason, e.epoch,
    e.owner, e.home, e.deaths, e.attempt, e.key, e.inputs_digest,
    e.inputs_codec, e.inputs_data, e.inputs_checksum,
    e.result_codec, e.result_data, e.result_checksum,
    f.codec as failure_codec, f.data as failure_data, f.checksum as failure_checksum,
    e.failed_calls, e.seed, e.spec, e.metadata, e.tags, e.code_folder, e.code_module,
    e.created_at, e.started_at, e.ended_at, e.due_at,
    e.parent_exec_id, e.parent_call, e.original_exec_id, e.deadline_at, e.keep_seconds,
    e.queue, e.priority, e.limit_key
from executions as e
left join attempts as f on f.execution = e.id and f.attempt = e.failed_attempt;

drop view executions_view;

create view executions_view as
select
    e.exec_id,
    e.flow_name as flow,
    e.status,
    e.status_reason as reason,
    e.attempt,
    e.key,
    e.project,
    strftime('%Y-%m-%dT%H:%M:%fZ', e.created_at / 1e6, 'unixepoch') as created_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', e.started_at / 1e6, 'unixepoch') as started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', e.ended_at / 1e6, 'unixepoch') as ended_at,
    round((e.ended_at - e.started_at) / 1e6, 6) as seconds,
    case when e.inputs_codec like 'json%' then cast(e.inputs_data as text) end as inputs,
    case when e.result_codec like 'json%' then cast(e.result_data as text) end as result,
    case when f.codec like 'json%' then cast(f.data as text) end as failure,
    e.tags,
    e.metadata,
    e.flow_id,
    o.pid as owner_pid,
    o.host as owner_host,
    e.queue,
    e.priority,
    e.limit_key,
    strftime('%Y-%m-%dT%H:%M:%fZ', e.due_at / 1e6, 'unixepoch') as due_at
from executions as e
left join attempts as f on f.execution = e.id and f.attempt = e.failed_attempt
left join owners as o on o.id = e.owner;

create view limits_view as
select
    l.project,
    l.name,
    l.max,
    (select count(*) from slots as s where s.project = l.project and s.name = l.name) as taken
from limits as l;

create view workers_view as
select
    w.name,
    w.project,
    o.pid,
    o.host,
    w.flows,
    w.queues,
    w.concurrency,
    w.draining,
    strftime('%Y-%m-%dT%H:%M:%fZ', w.at / 1e6, 'unixepoch') as at,
    (select count(*) from executions as e where e.owner = w.owner) as executions
from workers as w
join owners as o on o.id = w.owner;
