-- Facts: what executions have learnt, and notes for people.

-- name: add_learnt
-- event: none (owned)
with held as materialized (
    select id from kitaru.executions
    where id = $1 and epoch = $2 and status in ('running', 'cancelling')
    for share)
insert into kitaru.learnt (execution, identity, kind, value)
select id, $3, $4, $5 from held

-- name: load_learnt
select identity, kind, value from kitaru.learnt where execution = $1 order by id

-- name: add_note
-- event: none (owned)
with held as materialized (
    select id from kitaru.executions
    where id = $1 and epoch = $2 and status in ('running', 'cancelling')
    for share)
insert into kitaru.notes (execution, kind, message, at)
select id, $3, $4, $5 from held

-- name: list_notes
select kind, message, at from kitaru.notes where execution = $1 order by id
