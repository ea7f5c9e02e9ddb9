-- Housekeeping: executions are deleted, and what only they needed is collected.

-- How many rows are gone: the newest number less this is how many there are.
alter table meta add column executions_deleted integer not null default 0;
alter table meta add column calls_deleted integer not null default 0;

-- Rows of a deleted execution are removed little by little; 0: some may be left.
alter table tombstones add column swept integer not null default 0 check (swept in (0, 1));
create index tombstones_unswept on tombstones (execution) where swept = 0;

-- What `calls.reused_from` names where the source is gone: it stays readable. Below zero:
-- the source was never in this store, the execution was imported.
create table gone_calls (
    id integer primary key,
    exec_id text not null,
    identity blob not null
) strict;

create index calls_by_source on calls (reused_from) where reused_from is not null;

create index executions_by_original on executions (original_exec_id)
    where original_exec_id is not null;

-- What may be collected, by the instant from which on.
create index executions_kept on executions (ended_at + keep_seconds * 1000000)
    where keep_seconds is not null and ended_at is not null;

-- Which files under blobs/ are named by a row: none of these is touched by a small value.
create index blobs_of_inputs on executions (inputs_checksum) where inputs_data is null;
create index blobs_of_results on executions (result_checksum)
    where result_data is null and result_checksum is not null;
create index blobs_of_attempts on attempts (checksum) where data is null;
create index blobs_of_calls on calls (checksum) where data is null;
create index blobs_of_defaults on waits (default_checksum)
    where default_data is null and default_checksum is not null;
create index blobs_of_answers on waits (checksum) where data is null and checksum is not null;
create index blobs_of_artifacts on artifacts (checksum) where data is null;
create index blobs_of_memories on memories (checksum) where data is null and checksum is not null;

drop view checkpoints_view;

create view checkpoints_view as
select
    e.exec_id,
    e.flow_name as flow,
    c.seq,
    coalesce(c.named, c.checkpoint) as name,
    c.checkpoint,
    c.kind as type,
    c.attempt,
    case when c.reopened = 1 then 'reopened' else c.state end as state,
    c.source,
    c.reason,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.started_at / 1e6, 'unixepoch') as started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.ended_at / 1e6, 'unixepoch') as ended_at,
    round((c.ended_at - c.started_at) / 1e6, 6) as seconds,
    c.inputs,
    case when c.state = 'completed' and c.codec like 'json%' then cast(c.data as text) end
        as result,
    case when c.state = 'failed' and c.codec like 'json%' then cast(c.data as text) end
        as failure,
    length(c.data) as inline_bytes,
    c.metadata,
    c.branch,
    coalesce(s.exec_id, t.exec_id, g.exec_id) as reused_from,
    c.id as call
from calls as c
join executions as e on e.id = c.execution
left join calls as r on r.id = c.reused_from
left join executions as s on s.id = r.execution
left join tombstones as t on t.execution = r.execution
left join gone_calls as g on g.id = c.reused_from;
