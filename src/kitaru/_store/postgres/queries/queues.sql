-- Queues: what may be claimed next, how many at once, and who claims.

-- name: list_claimable
-- $1 project, $2 JSON list of flows in the order of their turns, $3 JSON list of queues
-- (null: all), $4 now, $5 how many of each lane.
-- A lane is a flow, a queue and a priority: few, and each found by one step into the
-- index, however much stands in it. A lane is crowded if more than a hundred in it stand under a
-- key that is full: the oldest are then looked for key by key, and full ones not at all.
with recursive
turns (flow_id, turn) as (
    select value, place - 1
    from jsonb_array_elements_text($2::jsonb) with ordinality as flows (value, place)),
full_ones (name) as materialized (
    select l.name from kitaru.limits as l
    where l.project = $1 and l.max <= (
        select count(*) from kitaru.slots as s where s.project = l.project and s.name = l.name)),
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
    where queue is not null and queue not in (select name from full_ones)
        and ($3::text is null or queue in (select jsonb_array_elements_text($3::jsonb)))
    union all
    select flow_id, turn, queue, (
        select max(priority) from kitaru.executions
        where project = $1 and flow_id = lanes.flow_id and queue = lanes.queue
            and priority < lanes.priority and status = 'pending' and deaths < 2)
    from lanes where priority is not null),
crowded as materialized (
    select l.flow_id, l.turn, l.queue, l.priority from lanes as l
    where l.priority is not null and exists (
        select 1 from full_ones as f where exists (
            select 1 from kitaru.executions as q
            where q.project = $1 and q.flow_id = l.flow_id and q.queue = l.queue
                and q.priority = l.priority and coalesce(q.limit_key, '') = f.name
                and q.status = 'pending' and q.deaths < 2
            offset 100))),
keys (flow_id, turn, queue, priority, limit_key) as (
    select flow_id, turn, queue, priority, (
        select min(coalesce(limit_key, '')) from kitaru.executions
        where project = $1 and flow_id = crowded.flow_id and queue = crowded.queue
            and priority = crowded.priority and status = 'pending' and deaths < 2)
    from crowded
    union all
    select flow_id, turn, queue, priority, (
        select min(coalesce(limit_key, '')) from kitaru.executions
        where project = $1 and flow_id = keys.flow_id and queue = keys.queue
            and priority = keys.priority and coalesce(limit_key, '') > keys.limit_key
            and status = 'pending' and deaths < 2)
    from keys where limit_key is not null),
by_age as materialized (
    select e.id, e.epoch, l.turn, l.priority, e.since, l.queue, e.limit_key
    from lanes as l cross join lateral (
        select q.id, q.epoch, coalesce(q.due_at, q.created_at) as since, q.limit_key
        from kitaru.executions as q
        where q.project = $1 and q.flow_id = l.flow_id and q.queue = l.queue
            and q.priority = l.priority and coalesce(q.due_at, q.created_at) <= $4
            and q.status = 'pending' and q.deaths < 2
            and (q.limit_key is null or q.limit_key not in (select name from full_ones))
            and not exists (
                select 1 from kitaru.owners as o where o.id = q.home and o.died_at is null)
        order by coalesce(q.due_at, q.created_at), q.id limit $5
        for no key update of q skip locked) as e
    where (l.turn, l.queue, l.priority) not in (select turn, queue, priority from crowded)),
by_key as materialized (
    select e.id, e.epoch, k.turn, k.priority, e.since, k.queue, e.limit_key
    from keys as k cross join lateral (
        select q.id, q.epoch, coalesce(q.due_at, q.created_at) as since, q.limit_key
        from kitaru.executions as q
        where q.project = $1 and q.flow_id = k.flow_id and q.queue = k.queue
            and q.priority = k.priority and coalesce(q.limit_key, '') = k.limit_key
            and coalesce(q.due_at, q.created_at) <= $4
            and q.status = 'pending' and q.deaths < 2
            and not exists (
                select 1 from kitaru.owners as o where o.id = q.home and o.died_at is null)
        order by coalesce(q.due_at, q.created_at), q.id limit $5
        for no key update of q skip locked) as e
    where k.limit_key not in (select name from full_ones)),
oldest as (
    select id, epoch, turn, priority, since, queue, limit_key,
        row_number() over (partition by turn, queue, priority order by since, id) as nth
    from by_key)
select id, epoch, turn, priority, since, queue, limit_key from by_age
union all
select id, epoch, turn, priority, since, queue, limit_key from oldest where nth <= $5

-- name: oldest_suspect
select e.id, e.epoch from kitaru.executions as e
where e.project = $1 and e.flow_id in (select jsonb_array_elements_text($2::jsonb))
    and e.status = 'pending' and e.deaths >= 2
    and ($3::text is null or e.queue in (select jsonb_array_elements_text($3::jsonb)))
    and coalesce(e.due_at, e.created_at) <= $4
    and not exists (select 1 from kitaru.owners as o where o.id = e.home and o.died_at is null)
    and not exists (
        select 1 from kitaru.limits as l
        where l.project = e.project and l.name in (e.queue, e.limit_key) and l.max <= (
            select count(*) from kitaru.slots as s where s.project = l.project and s.name = l.name))
order by coalesce(e.due_at, e.created_at), e.id limit 1
for no key update of e skip locked

-- name: take_slots
-- One of each limit that an execution is under and that has one left: the lowest free
-- number. Among one more than are taken there always is one. The limits are locked, so
-- that nobody else counts.
insert into kitaru.slots (project, name, number, execution)
select u.project, u.name, (
        select min(number) from generate_series(1, u.taken + 1) as number
        where not exists (
            select 1 from kitaru.slots as s
            where s.project = u.project and s.name = u.name and s.number = number.number)),
    $1
from (
    select l.project, l.name, l.max, (
        select count(*) from kitaru.slots as s
        where s.project = l.project and s.name = l.name) as taken
    from kitaru.executions as e
    join kitaru.limits as l on l.project = e.project and l.name in (e.queue, e.limit_key)
    where e.id = $1) as u
where u.taken < u.max

-- name: has_room
-- Whether $2, a queue, and $3, a key, have a slot left.
select not exists (
    select 1 from kitaru.limits as l
    where l.project = $1 and l.name in ($2, $3) and l.max <= (
        select count(*) from kitaru.slots as s where s.project = l.project and s.name = l.name))

-- name: give_back_slots
delete from kitaru.slots where execution = $1

-- name: list_queues
-- $2 now. What a living process has for itself stands in no queue; once that is dead, it does.
-- Suspects stand in an index of their own, as does what is owned.
with standing (queue, ready, since) as (
    select e.queue, coalesce(e.due_at, e.created_at) <= $2,
        greatest(coalesce(e.due_at, e.queued_at, e.created_at), case when e.home is not null then
            (select o.died_at from kitaru.owners as o where o.id = e.home) end)
    from kitaru.executions as e
    where e.project = $1 and e.status = 'pending' and e.deaths < 2
        and (e.home is null or not exists (
            select 1 from kitaru.owners as o where o.id = e.home and o.died_at is null))
    union all
    select e.queue, coalesce(e.due_at, e.created_at) <= $2,
        greatest(coalesce(e.due_at, e.queued_at, e.created_at), case when e.home is not null then
            (select o.died_at from kitaru.owners as o where o.id = e.home) end)
    from kitaru.executions as e
    where e.project = $1 and e.status = 'pending' and e.deaths >= 2
        and (e.home is null or not exists (
            select 1 from kitaru.owners as o where o.id = e.home and o.died_at is null))
    union all
    select queue, null::boolean, null::bigint from kitaru.executions
    where project = $1 and owner is not null)
select queue,
    count(*) filter (where ready),
    count(*) filter (where not ready),
    count(*) filter (where ready is null),
    min(since) filter (where ready)
from standing
group by queue order by queue

-- name: list_limits
select l.name, l.max, (
    select count(*) from kitaru.slots as s where s.project = l.project and s.name = l.name)
from kitaru.limits as l where l.project = $1 order by l.name

-- name: list_slots
select s.name, s.number, e.exec_id
from kitaru.slots as s join kitaru.executions as e on e.id = s.execution
where s.project = $1 order by s.name, s.number

-- name: limit_of
select max from kitaru.limits where project = $1 and name = $2

-- name: set_limit
insert into kitaru.limits (project, name, max) values ($1, $2, $3)
on conflict (project, name) do update set max = excluded.max

-- name: drop_limit
delete from kitaru.limits where project = $1 and name = $2

-- name: drop_slots
delete from kitaru.slots where project = $1 and name = $2

-- name: give_slots
-- To all that run under a name that had no limit.
insert into kitaru.slots (project, name, number, execution)
select project, $2::text, row_number() over (order by id), id
from kitaru.executions
where project = $1 and status in ('pending', 'running', 'cancelling') and status <> 'pending'
    and $2::text in (queue, limit_key)

-- name: enlist
insert into kitaru.workers (owner, project, name, flows, queues, concurrency, draining, at)
select id, $2, $3, $4, $5, $6, 0, $7 from kitaru.owners where id = $1 and died_at is null
on conflict (owner) do update
set project = excluded.project, name = excluded.name, flows = excluded.flows,
    queues = excluded.queues, concurrency = excluded.concurrency, draining = 0, at = excluded.at

-- name: mark_draining
update kitaru.workers set draining = 1, at = $2 where owner = $1

-- name: strike_off
delete from kitaru.workers where owner = $1

-- name: list_workers
select owner, project, name, flows, queues, concurrency, draining, at
from kitaru.workers where project = $1 order by owner

-- name: count_owned
select owner, count(*) from kitaru.executions
where project = $1 and owner is not null
group by owner order by owner

-- name: list_interrupted
select * from kitaru.execution_rows as e
where project = $1 and flow_id in (select jsonb_array_elements_text($2::jsonb))
    and status in ('pending', 'running', 'cancelling') and status in ('running', 'cancelling')
    and exists (
        select 1 from kitaru.owners as o where o.id = e.owner and o.died_at is not null)
order by id limit $3
