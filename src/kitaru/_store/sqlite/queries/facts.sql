-- Facts: what executions have learnt, and notes for people.

-- name: add_learnt
-- event: none (owned)
insert into learnt (execution, identity, kind, value)
select id, ?3, ?4, ?5 from executions
where id = ?1 and epoch = ?2 and status in ('running', 'cancelling')

-- name: load_learnt
select identity, kind, value from learnt where execution = ?1 order by id

-- name: add_note
-- event: none (owned)
insert into notes (execution, kind, message, at)
select id, ?3, ?4, ?5 from executions
where id = ?1 and epoch = ?2 and status in ('running', 'cancelling')

-- name: list_notes
select kind, message, at from notes where execution = ?1 order by id
