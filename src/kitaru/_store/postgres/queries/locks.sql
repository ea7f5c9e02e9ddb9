-- Locks: what a write of several statements takes before it looks. Where SQLite lets one
-- transaction write at a time, here the rows say who waits for whom: executions by their
-- numbers, ascending, which puts a parent before its children; then the owners.

-- name: lock_execution
-- The execution and its parent: whatever ends the one may wake the other.
select id from kitaru.executions
where id = $1 or exec_id = (select parent_exec_id from kitaru.executions where id = $1)
order by id for no key update

-- name: lock_executions
-- $1: JSON list of numbers.
select id from kitaru.executions
where id in (select jsonb_array_elements_text($1::jsonb)::bigint)
order by id for no key update

-- name: lock_named
-- $1: JSON list of execution ids that a new execution names: its parent, its original.
select id from kitaru.executions
where exec_id in (select jsonb_array_elements_text($1::jsonb))
order by id for share

-- name: lock_memory
-- Until the transaction ends, nobody else counts versions of this key.
select pg_advisory_xact_lock(hashtextextended($1, 0))
