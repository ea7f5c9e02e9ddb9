-- Schedules: when flows start by themselves, and what is due next.

create table schedules (
    project text not null,
    flow_id text not null,
    flow_name text not null,
    cron text not null,
    timezone text not null,
    missed text not null check (missed in ('skip', 'last', 'all')),
    -- What its executions are born with.
    spec text not null,
    keep_seconds integer,
    code_folder text,
    code_module text,
    -- The process whose code says so, and when it did.
    owner integer,
    said_at integer not null,
    -- The fire time that is due; null: none, or the code has dropped it.
    due_at integer,
    fired_at integer,
    fired_exec_id text,
    skipped integer not null default 0,
    paused_at integer,
    dropped_at integer,
    primary key (project, flow_id)
) strict;

create view schedules_view as
select
    flow_name as flow,
    cron,
    timezone,
    missed,
    case when dropped_at is not null then 'dropped'
        when paused_at is not null then 'paused' else 'active' end as state,
    strftime('%Y-%m-%dT%H:%M:%fZ', due_at / 1e6, 'unixepoch') as due_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', fired_at / 1e6, 'unixepoch') as fired_at,
    fired_exec_id,
    skipped,
    project
from schedules;
