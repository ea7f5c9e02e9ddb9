-- Queues: what may be claimed next, how many at once, and who claims.

-- name: list_claimable
-- ?1 project, ?2 JSON list of flows in the order of their turns, ?3 JSON list of queues
-- (null: all), ?4 now, ?5 how many of each lane.
-- A lane is a flow, a queue and a priority: few, and each found by one step into the
-- index, however much stands in it. A lane is crowded if more than a hundred in it stand under a
-- key that is full: the oldest are then looked for key by key, and full ones not at all.
with recursive
turns (flow_id, turn) as (select value, key from json_each(?2)),
full (name) as materialized (
    select l.name from limits as l
    where l.project = ?1 and l.max <= (
        select count(*) from slots as s where s.project = l.project and s.name = l.name)),
queues (flow_id, turn, queue) as (
    select flow_id, turn, (
        select min(queue) from executions
        where project = ?1 and flow_id = turns.flow_id and status = 'pending' and deaths < 2)
    from turns
    union all
    select flow_id, turn, (
        select min(queue) from executions
        where project = ?1 and flow_id = queues.flow_id and queue > queues.queue
            and status = 'pending' and deaths < 2)
    from queues where queue is not null),
lanes (flow_id, turn, queue, priority) as (
    select flow_id, turn, queue, (
        select max(priority) from executions
        where project = ?1 and flow_id = queues.flow_id and queue = queues.queue
            and status = 'pending' and deaths < 2)
    from queues
    where queue is not null and queue not in (select name from full)
        and (?3 is null or queue in (select value from json_each(?3)))
    union all
    select flow_id, turn, queue, (
        select max(priority) from executions
        where project = ?1 and flow_id = lanes.flow_id and queue = lanes.queue
            and priority < lanes.priority and status = 'pending' and deaths < 2)
    from lanes where priority is not null),
crowded (flow_id, turn, queue, priority) as materialized (
    select l.flow_id, l.turn, l.queue, l.priority from lanes as l
    where l.priority is not null and exists (
        select 1 from full as f where (
            select 1 from executions as q
            where q.project = ?1 and q.flow_id = l.flow_id and q.queue = l.queue
                and q.priority = l.priority and coalesce(q.limit_key, '') = f.name
                and q.status = 'pending' and q.deaths < 2
            limit 1 offset 100) is not null)),
keys (flow_id, turn, queue, priority, limit_key) as (
    select flow_id, turn, queue, priority, (
        select min(coalesce(limit_key, '')) from executions
        where project = ?1 and flow_id = crowded.flow_id and queue = crowded.queue
            and priority = crowded.priority and status = 'pending' and deaths < 2)
    from crowded
    union all
    select flow_id, turn, queue, priority, (
        select min(coalesce(limit_key, '')) from executions
        where project = ?1 and flow_id = keys.flow_id and queue = keys.queue
            and priority = keys.priority and coalesce(limit_key, '') > keys.limit_key
            and status = 'pending' and deaths < 2)
    from keys where limit_key is not null),
by_key as (
    select e.id, e.epoch, k.turn, k.priority, coalesce(e.due_at, e.created_at) as since,
        k.queue, e.limit_key, row_number() over (
            partition by k.turn, k.queue, k.priority
            order by coalesce(e.due_at, e.created_at), e.id) as nth
    from keys as k join executions as e on e.id in (
        select q.id from executions as q
        where q.project = ?1 and q.flow_id = k.flow_id and q.queue = k.queue
            and q.priority = k.priority and coalesce(q.limit_key, '') = k.limit_key
            and coalesce(q.due_at, q.created_at) <= ?4
            and q.status = 'pending' and q.deaths < 2
            and not exists (select 1 from owners as o where o.id = q.home and o.died_at is null)
        order by coalesce(q.due_at, q.created_at), q.id limit ?5)
    where k.limit_key not in (select name from full))
select e.id, e.epoch, l.turn, l.priority, coalesce(e.due_at, e.created_at), l.queue, e.limit_key
from lanes as l join executions as e on e.id in (
    select q.id from executions as q
    where q.project = ?1 and q.flow_id = l.flow_id and q.queue = l.queue
        and q.priority = l.priority and coalesce(q.due_at, q.created_at) <= ?4
        and q.status = 'pending' and q.deaths < 2
        and (q.limit_key is null or q.limit_key not in (select name from full))
        and not exists (select 1 from owners as o where o.id = q.home and o.died_at is null)
    order by coalesce(q.due_at, q.created_at), q.id limit ?5)
where (l.turn, l.queue, l.priority) not in (select turn, queue, priority from crowded)
union all
select id, epoch, turn, priority, since, queue, limit_key from by_key where nth <= ?5

-- name: oldest_suspect
select e.id, e.epoch from executions as e
where e.project = ?1 and e.flow_id in (select value from json_each(?2))
    and e.status = 'pending' and e.deaths >= 2
    and (?3 is null or e.queue in (select value from json_each(?3)))
    and coalesce(e.due_at, e.created_at) <= ?4
    and not exists (select 1 from owners as o where o.id = e.home and o.died_at is null)
    and not exists (
        select 1 from limits as l
        where l.project = e.project and l.name in (e.queue, e.limit_key) and l.max <= (
            select count(*) from slots as s where s.project = l.project and s.name = l.name))
order by coalesce(e.due_at, e.created_at), e.id limit 1

-- name: take_slots
-- One of each limit that an execution is under and that has one left: the lowest free
-- number. Among one more than are taken there always is one.
with recursive
under as (
    select l.project, l.name, l.max, (
        select count(*) from slots as s where s.project = l.project and s.name = l.name) as taken
    from executions as e
    join limits as l on l.project = e.project and l.name in (e.queue, e.limit_key)
    where e.id = ?1),
numbers (project, name, number, last) as (
    select project, name, 1, taken + 1 from under where taken < max
    union all
    select project, name, number + 1, last from numbers where number < last)
insert into slots (project, name, number, execution)
select n.project, n.name, min(n.number), ?1
from numbers as n
where not exists (
    select 1 from slots as s
    where s.project = n.project and s.name = n.name and s.number = n.number)
group by n.project, n.name

-- name: has_room
-- Whether ?2, a queue, and ?3, a key, have a slot left.
select not exists (
    select 1 from limits as l
    where l.project = ?1 and l.name in (?2, ?3) and l.max <= (
        select count(*) from slots as s where s.project = l.project and s.name = l.name))

-- name: give_back_slots
delete from slots where execution = ?1

-- name: list_queues
-- ?2 now. What a living process has for itself stands in no queue; once that is dead, it does.
-- Suspects stand in an index of their own, as does what is owned.
with standing (queue, ready, since) as (
    select e.queue, coalesce(e.due_at, e.created_at) <= ?2,
        max(coalesce(e.due_at, e.queued_at, e.created_at), case when e.home is null then 0 else
            coalesce((select o.died_at from owners as o where o.id = e.home), 0) end)
    from executions as e indexed by executions_queued
    where e.project = ?1 and e.status = 'pending' and e.deaths < 2
        and (e.home is null or not exists (
            select 1 from owners as o where o.id = e.home and o.died_at is null))
    union all
    select e.queue, coalesce(e.due_at, e.created_at) <= ?2,
        max(coalesce(e.due_at, e.queued_at, e.created_at), case when e.home is null then 0 else
            coalesce((select o.died_at from owners as o where o.id = e.home), 0) end)
    from executions as e indexed by executions_suspect
    where e.project = ?1 and e.status = 'pending' and e.deaths >= 2
        and (e.home is null or not exists (
            select 1 from owners as o where o.id = e.home and o.died_at is null))
    union all
    select queue, null, null from executions indexed by executions_owned
    where project = ?1 and owner is not null)
select queue,
    count(*) filter (where ready),
    count(*) filter (where not ready),
    count(*) filter (where ready is null),
    min(since) filter (where ready)
from standing
group by queue order by queue

-- name: list_limits
select l.name, l.max, (
    select count(*) from slots as s where s.project = l.project and s.name = l.name)
from limits as l where l.project = ?1 order by l.name

-- name: list_slots
select s.name, s.number, e.exec_id
from slots as s join executions as e on e.id = s.execution
where s.project = ?1 order by s.name, s.number

-- name: limit_of
select max from limits where project = ?1 and name = ?2

-- name: set_limit
insert into limits (project, name, max) values (?1, ?2, ?3)
on conflict (project, name) do update set max = excluded.max

-- name: drop_limit
delete from limits where project = ?1 and name = ?2

-- name: drop_slots
delete from slots where project = ?1 and name = ?2

-- name: give_slots
-- To all that run under a name that had no limit.
insert into slots (project, name, number, execution)
select project, ?2, row_number() over (order by id), id
from executions
where project = ?1 and status in ('pending', 'running', 'cancelling') and status <> 'pending'
    and ?2 in (queue, limit_key)

-- name: enlist
insert into workers (owner, project, name, flows, queues, concurrency, draining, at)
select id, ?2, ?3, ?4, ?5, ?6, 0, ?7 from owners where id = ?1 and died_at is null
on conflict (owner) do update
set project = excluded.project, name = excluded.name, flows = excluded.flows,
    queues = excluded.queues, concurrency = excluded.concurrency, draining = 0, at = excluded.at

-- name: mark_draining
update workers set draining = 1, at = ?2 where owner = ?1

-- name: strike_off
delete from workers where owner = ?1

-- name: list_workers
select owner, project, name, flows, queues, concurrency, draining, at
from workers where project = ?1 order by owner

-- name: count_owned
select owner, count(*) from executions
where project = ?1 and owner is not null
group by owner order by owner

-- name: list_interrupted
select * from execution_rows as e
where project = ?1 and flow_id in (select value from json_each(?2))
    and status in ('pending', 'running', 'cancelling') and status in ('running', 'cancelling')
    and exists (
        select 1 from owners as o where o.id = e.owner and o.died_at is not null)
order by id limit ?3
