-- Codes: versions of what a checkpoint consists of.

-- name: add_code
-- event: none (owned)
insert into codes (project, checkpoint, digest, parts, execution)
select project, ?3, ?4, ?5, id from executions
where id = ?1 and epoch = ?2 and status in ('running', 'cancelling')
on conflict do nothing

-- name: list_codes
select digest, parts, execution from codes
where project = ?1 and checkpoint = ?2 order by id desc limit ?3
