-- Indexes for what walked over rows that it did not want.

-- What is queued under each key: many that stand under a full one are stepped over at once.
create index executions_keyed on executions (
    project, flow_id, queue, priority desc, (coalesce(limit_key, '')),
    (coalesce(due_at, created_at)), id, home)
    where status = 'pending' and deaths < 2;

-- What a process owns, whatever its status.
create index executions_owned on executions (owner) where owner is not null;
drop index executions_cancelling;

-- On PostgreSQL there is one more, by project: a file here is seldom shared by several.
