-- Schedules: when flows start by themselves, and what is due next.

create table kitaru.schedules (
    project text collate "C" not null,
    flow_id text collate "C" not null,
    flow_name text collate "C" not null,
    cron text not null,
    timezone text not null,
    missed text not null check (missed in ('skip', 'last', 'all')),
    -- What its executions are born with.
    spec text not null,
    keep_seconds bigint,
    code_folder text,
    code_module text,
    -- The process whose code says so, and when it did.
    owner bigint,
    said_at bigint not null,
    -- The fire time that is due; null: none, or the code has dropped it.
    due_at bigint,
    fired_at bigint,
    fired_exec_id text,
    skipped bigint not null default 0,
    paused_at bigint,
    dropped_at bigint,
    primary key (project, flow_id)
);

create view kitaru.schedules_view as
select
    flow_name as flow,
    cron,
    timezone,
    missed,
    case when dropped_at is not null then 'dropped'
        when paused_at is not null then 'paused' else 'active' end as state,
    to_timestamp(due_at / 1e6) as due_at,
    to_timestamp(fired_at / 1e6) as fired_at,
    fired_exec_id,
    skipped,
    project
from kitaru.schedules;
