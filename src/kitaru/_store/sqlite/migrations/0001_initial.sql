-- The tables of a Kitaru store. docs/store.md explains them with examples;
-- the views at the end are what people should query.
--
-- Instants (`..._at`) are whole microseconds since 1970, UTC. A payload is
-- three columns: codec, data (null: the bytes are a compressed file under
-- blobs/, named by the checksum in hex) and checksum (BLAKE2b-256 of the bytes
-- before compression).

-- One row: what this store is.
create table meta (
    one integer primary key check (one = 1),
    schema_version integer not null,
    store_id text not null,
    project text not null,
    created_at integer not null
) strict;

-- Processes that own, or owned, executions. Dead is for ever.
create table owners (
    id integer primary key,
    lock_name text not null unique,
    pid integer not null,
    host text not null,
    started_at integer not null,
    died_at integer
) strict;

create index owners_alive on owners (id) where died_at is null;

-- One row for each life of a flow. What every guard reads stands first, what
-- may be long stands last.
create table executions (
    id integer primary key,
    epoch integer not null,
    status text not null check (status in (
        'pending', 'running', 'waiting', 'cancelling', 'completed', 'failed', 'cancelled')),
    owner integer references owners (id),
    home integer,
    deaths integer not null default 0,
    -- The newest call (calls.id) of this execution when an owner last died.
    call_at_death integer not null default 0,
    attempt integer not null default 1,
    -- The attempt whose failure is the execution's failure (attempts.attempt).
    failed_attempt integer,
    exec_id text not null unique,
    project text not null,
    flow_id text not null,
    flow_name text not null,
    key text,
    created_at integer not null,
    started_at integer,
    ended_at integer,
    due_at integer,
    status_reason text,
    inputs_digest blob not null,
    seed blob not null,
    -- Identities of the calls that a retry runs again: hex, separated by spaces.
    failed_calls text not null default '',
    code_folder text,
    code_module text,
    parent_exec_id text,
    parent_call blob,
    original_exec_id text,
    spec text not null,
    tags text not null,
    metadata text not null default '{}',
    inputs_codec text not null,
    inputs_data blob,
    inputs_checksum blob not null,
    result_codec text,
    result_data blob,
    result_checksum blob,
    check ((owner is not null) = (status in ('running', 'cancelling')))
) strict;

create unique index executions_by_key on executions (project, flow_id, key) where key is not null;

create index executions_unfinished on executions (project, flow_id)
    where status in ('pending', 'running', 'cancelling');

-- Failed attempts of executions.
create table attempts (
    id integer primary key,
    execution integer not null references executions (id),
    attempt integer not null,
    ended_at integer not null,
    codec text not null,
    data blob,
    checksum blob not null,
    unique (execution, attempt)
) strict;

-- The outcome of every attempt of every call: the table that grows. Rows are
-- appended in the order of their commits.
create table calls (
    id integer primary key,
    execution integer not null references executions (id),
    identity blob not null,
    attempt integer not null check (attempt >= 1),
    state text not null check (state in ('completed', 'failed')),
    -- A final failure that a retry of the execution opened again.
    reopened integer not null default 0 check (reopened in (0, 1)),
    retry_at integer,
    source text not null check (source in ('ran', 'reused', 'carried', 'override')),
    seq integer not null,
    place integer not null,
    n integer not null,
    checkpoint text not null,
    named text,
    kind text,
    parent blob,
    parent_attempt integer not null,
    branch text not null,
    arguments text not null,
    inputs text,
    inputs_digest blob not null,
    reuse_key blob,
    code blob,
    reused_from integer,
    reason text not null,
    metadata text,
    started_at integer not null,
    ended_at integer not null,
    codec text not null,
    data blob,
    checksum blob not null
) strict;

-- At most one success for a call, and one outcome for each of its attempts.
create unique index calls_by_identity on calls (
    execution, identity, (case state when 'completed' then 0 else attempt end));

-- An execution's calls in the order of recording, without touching the others'.
create index calls_by_execution on calls (execution);

create index calls_by_reuse_key on calls (reuse_key)
    where reuse_key is not null and state = 'completed';

-- Versions of a checkpoint's code; `parts` is JSON: function -> digest.
create table codes (
    id integer primary key,
    project text not null,
    checkpoint text not null,
    digest blob not null,
    parts text not null,
    execution integer not null references executions (id),
    unique (project, checkpoint, digest)
) strict;

-- What executions asked of the world and must hear again: now() and its like.
create table learnt (
    id integer primary key,
    execution integer not null references executions (id),
    identity blob not null,
    kind text not null,
    value text not null,
    unique (execution, identity)
) strict;

-- What a person should know about an execution: a drift, a takeover.
create table notes (
    id integer primary key,
    execution integer not null references executions (id),
    kind text not null,
    message text not null,
    at integer not null
) strict;

create index notes_by_execution on notes (execution);

-- What the program reads of an execution, in the order in which it reads it.
create view execution_rows as
select
    e.id, e.exec_id, e.project, e.flow_id, e.flow_name, e.status, e.status_reason, e.epoch,
    e.owner, e.home, e.deaths, e.attempt, e.key, e.inputs_digest,
    e.inputs_codec, e.inputs_data, e.inputs_checksum,
    e.result_codec, e.result_data, e.result_checksum,
    f.codec as failure_codec, f.data as failure_data, f.checksum as failure_checksum,
    e.failed_calls, e.seed, e.spec, e.metadata, e.tags, e.code_folder, e.code_module,
    e.created_at, e.started_at, e.ended_at, e.due_at,
    e.parent_exec_id, e.parent_call, e.original_exec_id
from executions as e
left join attempts as f on f.execution = e.id and f.attempt = e.failed_attempt;

-- For people. Times are ISO 8601 in UTC; values are shown where they are text.
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
    o.host as owner_host
from executions as e
left join attempts as f on f.execution = e.id and f.attempt = e.failed_attempt
left join owners as o on o.id = e.owner;

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
    s.exec_id as reused_from,
    c.id as call
from calls as c
join executions as e on e.id = c.execution
left join calls as r on r.id = c.reused_from
left join executions as s on s.id = r.execution;

create view attempts_view as
select
    e.exec_id,
    a.attempt,
    strftime('%Y-%m-%dT%H:%M:%fZ', a.ended_at / 1e6, 'unixepoch') as ended_at,
    case when a.codec like 'json%' then cast(a.data as text) end as failure
from attempts as a
join executions as e on e.id = a.execution;

create view notes_view as
select
    e.exec_id,
    strftime('%Y-%m-%dT%H:%M:%fZ', n.at / 1e6, 'unixepoch') as at,
    n.kind,
    n.message
from notes as n
join executions as e on e.id = n.execution;

create view owners_view as
select
    o.id as owner,
    o.pid,
    o.host,
    strftime('%Y-%m-%dT%H:%M:%fZ', o.started_at / 1e6, 'unixepoch') as started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', o.died_at / 1e6, 'unixepoch') as died_at,
    (select count(*) from executions as e where e.owner = o.id) as executions
from owners as o;
