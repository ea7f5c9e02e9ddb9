-- Codes: versions of what a checkpoint consists of.

-- name: add_code
-- event: none (owned)
with held as materialized (
    select id, project from kitaru.executions
    where id = $1 and epoch = $2 and status in ('running', 'cancelling')
    for share)
insert into kitaru.codes (project, checkpoint, digest, parts, files, unseen, execution)
select project, $3, $4, $5, $6, $7, id from held
-- A version from before sources were kept gets them now.
on conflict (project, checkpoint, digest) do update
    set files = excluded.files, unseen = excluded.unseen
    where kitaru.codes.files is null and excluded.files is not null

-- name: add_source
-- event: none (owned)
with held as materialized (
    select id from kitaru.executions
    where id = $1 and epoch = $2 and status in ('running', 'cancelling')
    for share)
insert into kitaru.sources (digest, text)
select $3, $4 from held
on conflict do nothing

-- name: list_codes
select digest, parts, execution, files, unseen from kitaru.codes
where project = $1 and checkpoint = $2 order by id desc limit $3

-- name: source_by_digest
select text from kitaru.sources where digest = $1
