-- Indexes for what walked over rows that it did not want. To make them takes some seconds for
-- each million executions, in which nobody writes.

-- What is queued under each key: many that stand under a full one are stepped over at once.
create index executions_keyed on kitaru.executions (
    project, flow_id, queue, priority desc, (coalesce(limit_key, '')),
    (coalesce(due_at, created_at)), id)
    include (home)
    where status = 'pending' and deaths < 2;

-- What a process owns, whatever its status.
create index executions_owned on kitaru.executions (owner) where owner is not null;
drop index kitaru.executions_cancelling;

-- The newest of a project, beside any number of another's. By the number with its sign turned:
-- in an order that the primary key has too, the planner would walk over all projects.
create index executions_by_project on kitaru.executions (project, (- id));
