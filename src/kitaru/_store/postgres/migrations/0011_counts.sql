-- What stands where is counted in indexes alone, and few of one status are found among many of
-- another. To make the indexes takes some seconds for each million executions, in which nobody
-- writes.

-- Since when it is pending again: handed back, answered, retried; null: since it was created.
alter table kitaru.executions add column queued_at bigint;

-- With all that list_queues asks: an index of an expression does not have what is in it.
drop index kitaru.executions_queued;
create index executions_queued on kitaru.executions (
    project, flow_id, queue, priority desc, (coalesce(due_at, created_at)), id)
    include (limit_key, home, due_at, created_at, queued_at)
    where status = 'pending' and deaths < 2;

create index executions_by_status on kitaru.executions (project, status, (- id));
