-- Codes: versions of what a checkpoint consists of.

-- name: add_code
-- event: none (owned)
insert into codes (project, checkpoint, digest, parts, files, unseen, execution)
select project, ?3, ?4, ?5, ?6, ?7, id from executions
where id = ?1 and epoch = ?2 and status in ('running', 'cancelling')
-- A version from before sources were kept gets them now.
on conflict (project, checkpoint, digest) do update
    set files = excluded.files, unseen = excluded.unseen
    where codes.files is null and excluded.files is not null

-- name: add_source
-- event: none (owned)
insert into sources (digest, text)
select ?3, ?4 from executions
where id = ?1 and epoch = ?2 and status in ('running', 'cancelling')
on conflict do nothing

-- name: list_codes
select digest, parts, execution, files, unseen from codes
where project = ?1 and checkpoint = ?2 order by id desc limit ?3

-- name: source_by_digest
select text from sources where digest = ?1
