-- Signs: what there may be to do, for one process.

-- name: signs
-- $1 owner, $2 project, $3 JSON list of flows, $4 JSON list of queues (null: all), $5 now.
-- One question for each poll, so that an idle process asks one thing; whatever it shows is
-- looked at by the query that is named beside it.
with recursive
queues (flow_id, queue) as (
    select value, (
        select min(queue) from kitaru.executions
        where project = $2 and flow_id = value and status = 'pending' and deaths < 2)
    from jsonb_array_elements_text($3::jsonb) as flows (value)
    union all
    select flow_id, (
        select min(queue) from kitaru.executions
        where project = $2 and flow_id = queues.flow_id and queue > queues.queue
            and status = 'pending' and deaths < 2)
    from queues where queue is not null),
lanes (flow_id, queue, priority) as (
    select flow_id, queue, (
        select max(priority) from kitaru.executions
        where project = $2 and flow_id = queues.flow_id and queue = queues.queue
            and status = 'pending' and deaths < 2)
    from queues
    where queue is not null and ($4::text is null or queue in (select jsonb_array_elements_text($4::jsonb)))
    union all
    select flow_id, queue, (
        select max(priority) from kitaru.executions
        where project = $2 and flow_id = lanes.flow_id and queue = lanes.queue
            and priority < lanes.priority and status = 'pending' and deaths < 2)
    from lanes where priority is not null)
select
    -- changes
    pg_current_snapshot()::text,
    -- list_owned
    exists (select 1 from kitaru.executions where owner = $1 and status = 'cancelling'),
    -- list_served
    exists (
        select 1 from kitaru.executions
        where home = $1 and status = 'pending' and project = $2),
    -- next_due
    (select due_at from kitaru.executions
        where project = $2 and status = 'waiting' and due_at is not null
        order by due_at limit 1),
    -- reap
    exists (
        select 1 from kitaru.owners
        where died_at is null and lease_until < (select kitaru.clock($5))),
    -- list_interrupted
    exists (
        select 1 from kitaru.executions as e
        where e.project = $2 and e.flow_id in (select jsonb_array_elements_text($3::jsonb))
            and e.status in ('pending', 'running', 'cancelling')
            and e.status in ('running', 'cancelling')
            and exists (
                select 1 from kitaru.owners as o where o.id = e.owner and o.died_at is not null)),
    -- oldest_suspect
    exists (
        select 1 from kitaru.executions as e
        where e.project = $2 and e.flow_id in (select jsonb_array_elements_text($3::jsonb))
            and e.status = 'pending' and e.deaths >= 2
            and ($4::text is null or e.queue in (select jsonb_array_elements_text($4::jsonb)))
            and coalesce(e.due_at, e.created_at) <= $5
            and not exists (
                select 1 from kitaru.owners as o where o.id = e.home and o.died_at is null)
            and not exists (
                select 1 from kitaru.limits as l
                where l.project = e.project and l.name in (e.queue, e.limit_key) and l.max <= (
                    select count(*) from kitaru.slots as s
                    where s.project = l.project and s.name = l.name))),
    -- list_claimable
    (select min((
        select min(coalesce(due_at, created_at)) from kitaru.executions
        where project = $2 and flow_id = lanes.flow_id and queue = lanes.queue
            and priority = lanes.priority and status = 'pending' and deaths < 2))
        from lanes)
