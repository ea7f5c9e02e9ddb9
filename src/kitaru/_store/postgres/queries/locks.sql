-- Locks: what a write of several statements takes before it looks. Where SQLite lets one
-- transaction write at a time, here the rows say who waits for whom: executions by their
-- numbers, ascending, which puts a parent before its children; then the owners.
--
-- Whatever begins an execution, or locks one in order to let go of it, names `under_limits`: it
-- locks no row, but the table of the limits, before any row and before the statement's snapshot is
-- taken. So a new limit (lock_starts) waits for it, or it waits for that limit and sees it.

-- name: lock_execution
-- The execution and its parent: whatever ends the one may wake the other.
with under_limits as materialized (select 1 from kitaru.limits where false for key share)
select id from kitaru.executions
where (id = $1 or exec_id = (select parent_exec_id from kitaru.executions where id = $1))
    and not exists (select 1 from under_limits)
order by id for no key update

-- name: lock_executions
-- $1: JSON list of numbers.
with under_limits as materialized (select 1 from kitaru.limits where false for key share)
select id from kitaru.executions
where id in (select jsonb_array_elements_text($1::jsonb)::bigint)
    and not exists (select 1 from under_limits)
order by id for no key update

-- name: lock_group
-- Before the first of several writes in one transaction: all executions that they will lock, in
-- the order in which everybody locks them. $1 JSON list of those that are written to alone, $2
-- of those that are locked together with their parents, $3 of those whose families go with them,
-- $4 of the execution ids that new executions name: their parents, their originals.
with recursive
under_limits as materialized (select 1 from kitaru.limits where false for key share),
family (id, exec_id) as (
    select id, exec_id from kitaru.executions
    where id = any (array(select jsonb_array_elements_text($3::jsonb)::bigint))
    union
    select e.id, e.exec_id from kitaru.executions as e join family as f on e.parent_exec_id = f.exec_id)
select id from kitaru.executions
where (id = any (array(
        select jsonb_array_elements_text($1::jsonb)::bigint
        union all select jsonb_array_elements_text($2::jsonb)::bigint
        union all select id from family))
    or exec_id = any (array(
        select e.parent_exec_id from kitaru.executions as e
        where e.id = any (array(
            select jsonb_array_elements_text($2::jsonb)::bigint
            union all select jsonb_array_elements_text($3::jsonb)::bigint))
            and e.parent_exec_id is not null
        union all select jsonb_array_elements_text($4::jsonb))))
    and not exists (select 1 from under_limits)
order by id for no key update

-- name: lock_named
-- $1: JSON list of execution ids that a new execution names: its parent, its original.
select id from kitaru.executions
where exec_id in (select jsonb_array_elements_text($1::jsonb))
order by id for share

-- name: lock_memory
-- Until the transaction ends, nobody else counts versions of this key.
select pg_advisory_xact_lock(hashtextextended($1, 0))

-- name: lock_limits
-- $2: JSON list of names. Whoever takes or counts slots of them comes after us, and reads
-- what we leave: each statement has its own snapshot, so this one stands alone.
select name from kitaru.limits
where project = $1 and name in (select jsonb_array_elements_text($2::jsonb))
order by name for no key update

-- name: lock_limits_of
select l.name from kitaru.executions as e
join kitaru.limits as l on l.project = e.project and l.name in (e.queue, e.limit_key)
where e.id = $1
order by l.name for no key update of l

-- name: lock_starts
-- A limit where there was none: what began under none and is not committed is waited for, and so
-- is what ends, which else would be given a slot that nobody gives back. Not what a program
-- enqueues in a transaction of its own, however long that is: it is claimed later, or not at all.
lock table kitaru.limits in exclusive mode

-- name: lock_imports
-- One at a time: each makes numbers for what it names and is not here.
select pg_advisory_xact_lock(hashtextextended('import', 0))

-- name: lock_tombstone
-- Two that sweep one execution count its rows once.
select execution from kitaru.tombstones where exec_id = $1 for no key update
