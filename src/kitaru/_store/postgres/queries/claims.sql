-- Claims: many executions by one statement. What it chooses is what `choose` in
-- `_core/queueing.py` would; the differential tests hold it to that. Rows are named by arrays and
-- looked up one by one: a planner that knows not how many there are would read whole tables.

-- name: claim_next
-- event: claim
-- $1 project, $2 JSON list of flows in the order of their turns, $3 JSON list of queues
-- (null: all), $4 now, $5 how many, $6 the owner, $7 whether it runs nothing else.
-- In a project that has limits nothing is claimed so: their slots are counted under a lock,
-- by a statement that begins after it (list_claimable, lock_limits, claim_chosen).
with recursive
under_limits as materialized (select 1 from kitaru.limits where false for key share),
alive as materialized (
    select id from kitaru.owners where id = $6 and died_at is null for key share),
free as materialized (
    select exists (select 1 from alive) and not exists (select 1 from under_limits)
        and not exists (select 1 from kitaru.limits where project = $1) as yes),
suspect as materialized (
    select e.id from kitaru.executions as e
    where $7::boolean and (select yes from free)
        and e.project = $1 and e.flow_id in (select jsonb_array_elements_text($2::jsonb))
        and e.status = 'pending' and e.deaths >= 2
        and ($3::text is null or e.queue in (select jsonb_array_elements_text($3::jsonb)))
        and coalesce(e.due_at, e.created_at) <= $4
        and not exists (
            select 1 from kitaru.owners as o where o.id = e.home and o.died_at is null)
    order by coalesce(e.due_at, e.created_at), e.id limit 1
    for no key update of e skip locked),
turns (flow_id, turn) as (
    select value, place - 1
    from jsonb_array_elements_text($2::jsonb) with ordinality as flows (value, place)
    where (select yes from free) and not exists (select 1 from suspect)),
queues (flow_id, turn, queue) as (
    select flow_id, turn, (
        select min(queue) from kitaru.executions
        where project = $1 and flow_id = turns.flow_id and status = 'pending' and deaths < 2)
    from turns
    union all
    select flow_id, turn, (
        select min(queue) from kitaru.executions
        where project = $1 and flow_id = queues.flow_id and queue > queues.queue
            and status = 'pending' and deaths < 2)
    from queues where queue is not null),
lanes (flow_id, turn, queue, priority) as (
    select flow_id, turn, queue, (
        select max(priority) from kitaru.executions
        where project = $1 and flow_id = queues.flow_id and queue = queues.queue
            and status = 'pending' and deaths < 2)
    from queues
    where queue is not null
        and ($3::text is null or queue in (select jsonb_array_elements_text($3::jsonb)))
    union all
    select flow_id, turn, queue, (
        select max(priority) from kitaru.executions
        where project = $1 and flow_id = lanes.flow_id and queue = lanes.queue
            and priority < lanes.priority and status = 'pending' and deaths < 2)
    from lanes where priority is not null),
picked as materialized (
    select e.id, l.turn, l.priority, e.since
    from lanes as l cross join lateral (
        select q.id, coalesce(q.due_at, q.created_at) as since
        from kitaru.executions as q
        where q.project = $1 and q.flow_id = l.flow_id and q.queue = l.queue
            and q.priority = l.priority and coalesce(q.due_at, q.created_at) <= $4
            and q.status = 'pending' and q.deaths < 2
            and not exists (
                select 1 from kitaru.owners as o where o.id = q.home and o.died_at is null)
        order by coalesce(q.due_at, q.created_at), q.id limit $5
        for no key update of q skip locked) as e),
-- One of each flow, and round again.
rounds as (
    select id, priority, turn,
        row_number() over (partition by priority, turn order by since, id) as round
    from picked),
ordered as (
    select id, row_number() over (order by priority desc, round, turn) as place from rounds),
chosen as materialized (
    select id, place from ordered where place <= $5 union all select id, 1 from suspect),
-- No look at the epoch: the row is locked, and this statement may see an older version of it.
claimed as (
    update kitaru.executions as e
    set status = 'running', epoch = epoch + 1, owner = $6,
        started_at = coalesce(started_at, $4), due_at = null
    where e.id = any (array(select id from chosen)) and status in ('pending')
    returning e.*)
select
    e.id, e.exec_id, e.project, e.flow_id, e.flow_name, e.status, e.status_reason, e.epoch,
    e.owner, e.home, e.deaths, e.attempt, e.key, e.inputs_digest,
    e.inputs_codec, e.inputs_data, e.inputs_checksum,
    e.result_codec, e.result_data, e.result_checksum,
    f.codec, f.data, f.checksum,
    e.failed_calls, e.seed, e.spec, e.metadata, e.tags, e.code_folder, e.code_module,
    e.created_at, e.started_at, e.ended_at, e.due_at,
    e.parent_exec_id, e.parent_call, e.original_exec_id, e.deadline_at, e.keep_seconds,
    e.queue, e.priority, e.limit_key
from claimed as e
join chosen as p on p.id = e.id
left join lateral (
    select a.codec, a.data, a.checksum from kitaru.attempts as a
    where a.execution = e.id and a.attempt = e.failed_attempt limit 1) as f on true
order by p.place

-- name: claim_chosen
-- event: claim
-- $1 JSON list of numbers in their order, $2 the owner, $3 now, $4 project. All of them and
-- their limits are locked, and there is room. Each takes a slot of each limit that it is
-- under: the lowest free numbers. Among as many as are taken and wanted there are enough.
with
alive as materialized (
    select id from kitaru.owners where id = $2 and died_at is null for key share),
chosen as materialized (
    select value::bigint as id, place
    from jsonb_array_elements_text($1::jsonb) with ordinality as numbers (value, place)),
claimed as (
    update kitaru.executions as e
    set status = 'running', epoch = epoch + 1, owner = $2,
        started_at = coalesce(started_at, $3), due_at = null
    where e.id = any (array(select id from chosen)) and status in ('pending')
        and exists (select 1 from alive)
    returning e.*),
wanted as materialized (
    select l.name, c.id, row_number() over (partition by l.name order by p.place) as nth
    from claimed as c join chosen as p on p.id = c.id
    join kitaru.limits as l on l.project = $4 and l.name in (c.queue, c.limit_key)),
free as (
    select n.name, tried.number, row_number() over (
        partition by n.name order by tried.number) as nth
    from (select name, count(*) as many from wanted group by name) as n
    cross join lateral generate_series(1, n.many + (
        select count(*) from kitaru.slots as s
        where s.project = $4 and s.name = n.name)) as tried (number)
    where not exists (
        select 1 from kitaru.slots as s
        where s.project = $4 and s.name = n.name and s.number = tried.number)),
taken as (
    insert into kitaru.slots (project, name, number, execution)
    select $4, w.name, f.number, w.id from wanted as w join free as f using (name, nth))
select
    e.id, e.exec_id, e.project, e.flow_id, e.flow_name, e.status, e.status_reason, e.epoch,
    e.owner, e.home, e.deaths, e.attempt, e.key, e.inputs_digest,
    e.inputs_codec, e.inputs_data, e.inputs_checksum,
    e.result_codec, e.result_data, e.result_checksum,
    f.codec, f.data, f.checksum,
    e.failed_calls, e.seed, e.spec, e.metadata, e.tags, e.code_folder, e.code_module,
    e.created_at, e.started_at, e.ended_at, e.due_at,
    e.parent_exec_id, e.parent_call, e.original_exec_id, e.deadline_at, e.keep_seconds,
    e.queue, e.priority, e.limit_key
from claimed as e
join chosen as p on p.id = e.id
left join lateral (
    select a.codec, a.data, a.checksum from kitaru.attempts as a
    where a.execution = e.id and a.attempt = e.failed_attempt limit 1) as f on true
order by p.place
