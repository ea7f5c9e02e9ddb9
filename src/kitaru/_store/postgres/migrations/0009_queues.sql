-- Queues: what is enqueued, by whom it may be claimed, and how many run at once.

alter table kitaru.executions add column queue text collate "C" not null default 'default';

-- Higher first.
alter table kitaru.executions add column priority bigint not null default 0;

-- What shares a limit with others of other queues or flows; null: nothing.
alter table kitaru.executions add column limit_key text collate "C";

-- How many executions of a queue, or with a key, run at once: both share one name space.
create table kitaru.limits (
    project text collate "C" not null,
    name text collate "C" not null,
    max bigint not null check (max >= 0),
    primary key (project, name)
);

-- A place among those, held exactly while the execution is owned: taken in the
-- transaction of the claim, given back in the one that lets go. A row and not a count.
create table kitaru.slots (
    project text collate "C" not null,
    name text collate "C" not null,
    number bigint not null check (number >= 1),
    execution bigint not null,
    primary key (project, name, number)
);

create index slots_by_execution on kitaru.slots (execution);

-- Live processes that claim what is queued.
create table kitaru.workers (
    owner bigint primary key,
    project text collate "C" not null,
    name text not null,
    -- JSON lists. No queue: all of them.
    flows text not null,
    queues text not null,
    concurrency bigint not null,
    draining bigint not null default 0 check (draining in (0, 1)),
    at bigint not null
);

-- What claims read: each lane (flow, queue, priority) in its order, by age; the rest of
-- what they ask stands here too, so that rows are read of what is claimed, and no other.
create index executions_queued on kitaru.executions (
    project, flow_id, queue, priority desc, (coalesce(due_at, created_at)), id)
    include (limit_key, home)
    where status = 'pending' and deaths < 2;

-- Those run alone in their process.
create index executions_suspect on kitaru.executions (project, flow_id)
    where status = 'pending' and deaths >= 2;

-- By status too, so that what runs is found beside any number of pending ones.
drop index kitaru.executions_unfinished;
create index executions_unfinished on kitaru.executions (project, flow_id, status)
    where status in ('pending', 'running', 'cancelling');

create or replace view kitaru.execution_rows as
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
from kitaru.executions as e
left join kitaru.attempts as f on f.execution = e.id and f.attempt = e.failed_attempt;

create or replace view kitaru.executions_view as
select
    e.exec_id,
    e.flow_name as flow,
    e.status,
    e.status_reason as reason,
    e.attempt,
    e.key,
    e.project,
    to_timestamp(e.created_at / 1e6) as created_at,
    to_timestamp(e.started_at / 1e6) as started_at,
    to_timestamp(e.ended_at / 1e6) as ended_at,
    round((e.ended_at - e.started_at) / 1e6, 6) as seconds,
    case when e.inputs_codec like 'json%' then convert_from(e.inputs_data, 'UTF8') end as inputs,
    case when e.result_codec like 'json%' then convert_from(e.result_data, 'UTF8') end as result,
    case when f.codec like 'json%' then convert_from(f.data, 'UTF8') end as failure,
    e.tags,
    e.metadata,
    e.flow_id,
    o.pid as owner_pid,
    o.host as owner_host,
    e.queue,
    e.priority,
    e.limit_key,
    to_timestamp(e.due_at / 1e6) as due_at
from kitaru.executions as e
left join kitaru.attempts as f on f.execution = e.id and f.attempt = e.failed_attempt
left join kitaru.owners as o on o.id = e.owner;

create view kitaru.limits_view as
select
    l.project,
    l.name,
    l.max,
    (select count(*) from kitaru.slots as s where s.project = l.project and s.name = l.name)
        as taken
from kitaru.limits as l;

create view kitaru.workers_view as
select
    w.name,
    w.project,
    o.pid,
    o.host,
    w.flows,
    w.queues,
    w.concurrency,
    w.draining,
    to_timestamp(w.at / 1e6) as at,
    (select count(*) from kitaru.executions as e where e.owner = w.owner) as executions
from kitaru.workers as w
join kitaru.owners as o on o.id = w.owner;
