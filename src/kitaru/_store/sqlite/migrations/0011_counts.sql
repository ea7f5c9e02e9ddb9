-- What stands where is counted in indexes alone, and few of one status are found among many of
-- another.

-- Since when it is pending again: handed back, answered, retried; null: since it was created.
alter table executions add column queued_at integer;

-- With all that list_queues asks: an index of an expression does not have what is in it.
drop index executions_queued;
create index executions_queued on executions (
    project, flow_id, queue, priority desc, (coalesce(due_at, created_at)), id, limit_key, home,
    due_at, created_at, queued_at, status, deaths)
    where status = 'pending' and deaths < 2;

-- All of them have a status. It is for those who say that, and nobody else: the planner would
-- take it for any question about a project and a status, for which there are better ones.
create index executions_by_status on executions (project, status) where status <> '';
