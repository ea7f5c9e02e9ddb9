-- Control over executions: waits and their answers, deadlines, children, intents,
-- artifacts, memory, and what is left of executions that were deleted.

-- Absolute, by the store's clock: a flow's timeout.
alter table executions add column deadline_at integer;

-- How long it is kept after its end; null: until somebody deletes it.
alter table executions add column keep_seconds integer;

-- A child is the same child in every life of its parent.
create unique index executions_by_parent on executions (parent_exec_id, parent_call)
    where parent_exec_id is not null;

-- What waits, by the instant at which it goes on by itself (null: somebody must act).
create index executions_waiting on executions (project, due_at) where status = 'waiting';

-- What a live process looks for again and again: what it parked and was answered, and
-- what it runs and was cancelled. Both are small: what is past them is not in them.
create index executions_served on executions (home) where status = 'pending';
create index executions_cancelling on executions (owner) where status = 'cancelling';

-- What an execution asks of people and programs. Closed once: the first answer wins.
create table waits (
    id integer primary key,
    execution integer not null references executions (id),
    identity blob not null,
    -- input: kitaru.wait(); decision: what is to become of the call in `call`.
    kind text not null check (kind in ('input', 'decision')),
    state text not null check (state in ('open', 'answered', 'expired', 'aborted')),
    -- What people call it: its name, or wait_condition:0.
    label text not null,
    name text,
    question text,
    -- JSON Schema of the answer; null: a gate (go on, or abort).
    schema text,
    metadata text,
    branch text not null,
    call blob,
    opened_at integer not null,
    expires_at integer,
    -- What it comes to when it expires; null: an error.
    default_codec text,
    default_data blob,
    default_checksum blob,
    closed_at integer,
    closed_by text,
    codec text,
    data blob,
    checksum blob,
    unique (execution, identity)
) strict;

create index waits_open on waits (execution) where state = 'open';
create index waits_by_opening on waits (opened_at) where state = 'open';

-- effect="once": recorded before the body starts. One without an outcome in `calls`
-- whose owner is gone is uncertain.
create table intents (
    id integer primary key,
    execution integer not null references executions (id),
    identity blob not null,
    attempt integer not null check (attempt >= 1),
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
    at integer not null,
    unique (execution, identity, attempt)
) strict;

-- What checkpoints saved by name beside their results.
create table artifacts (
    -- People and programs keep it: a number is never given again.
    id integer primary key autoincrement,
    execution integer not null references executions (id),
    call blob not null,
    attempt integer not null,
    name text not null,
    save_type text not null,
    tags text not null,
    at integer not null,
    codec text not null,
    data blob,
    checksum blob not null,
    unique (execution, call, attempt, name)
) strict;

-- Durable state beyond one execution: every version of every key. Deleted: a tombstone.
create table memories (
    id integer primary key,
    project text not null,
    scope_type text not null check (scope_type in ('namespace', 'flow', 'execution')),
    scope text not null,
    key text not null,
    version integer not null check (version >= 1),
    deleted integer not null default 0 check (deleted in (0, 1)),
    -- Who wrote it: an execution and the identity of its asking; null: a program or a person.
    exec_id text,
    identity blob,
    at integer not null,
    codec text,
    data blob,
    checksum blob,
    unique (project, scope_type, scope, key, version)
) strict;

-- A resume does not write again.
create unique index memories_by_asking on memories (exec_id, identity) where identity is not null;

-- What is left of an execution that was deleted. `execution` was its executions.id: a
-- number that is never given again.
create table tombstones (
    exec_id text primary key,
    execution integer not null unique,
    project text not null,
    flow_id text not null,
    flow_name text not null,
    status text not null,
    created_at integer not null,
    started_at integer,
    ended_at integer,
    deleted_at integer not null
) strict, without rowid;

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
    e.parent_exec_id, e.parent_call, e.original_exec_id, e.deadline_at, e.keep_seconds
from executions as e
left join attempts as f on f.execution = e.id and f.attempt = e.failed_attempt;

create view waits_view as
select
    e.exec_id,
    e.flow_name as flow,
    w.label as wait,
    w.kind,
    w.state,
    w.question,
    w.schema,
    strftime('%Y-%m-%dT%H:%M:%fZ', w.opened_at / 1e6, 'unixepoch') as opened_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', w.expires_at / 1e6, 'unixepoch') as expires_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', w.closed_at / 1e6, 'unixepoch') as closed_at,
    w.closed_by,
    case when w.codec like 'json%' then cast(w.data as text) end as answer,
    w.metadata,
    w.branch
from waits as w
join executions as e on e.id = w.execution;
