-- Waits: what executions ask of people and programs. Each is closed once: what closes one is
-- guarded by its being open.

-- name: add_wait
-- event: none (owned)
-- An aborted one was open when an earlier attempt of the execution ended: it is opened anew.
with held as materialized (
    select id from kitaru.executions
    where id = $1 and epoch = $2 and status in ('running', 'cancelling')
    for share),
reopened as (
    update kitaru.waits
    set state = 'open', opened_at = $12, expires_at = $13, closed_at = null, closed_by = null
    where execution = (select id from held) and identity = $3 and state = 'aborted')
insert into kitaru.waits (
    execution, identity, kind, state, label, name, question, schema, metadata, branch, call,
    opened_at, expires_at, default_codec, default_data, default_checksum)
select id, $3, $4, 'open', $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16 from held
where not exists (select 1 from kitaru.waits where execution = $1 and identity = $3)

-- name: answer_wait
update kitaru.waits
set state = 'answered', closed_at = $3, closed_by = $4, codec = $5, data = $6, checksum = $7
where execution = $1 and identity = $2 and state = 'open' and (expires_at is null or expires_at > $3)

-- name: expire_wait
update kitaru.waits
set state = 'expired', closed_at = $3
where execution = $1 and identity = $2 and state = 'open' and expires_at <= $3

-- name: abort_waits
update kitaru.waits
set state = 'aborted', closed_at = $2, closed_by = $3
where execution = $1 and state = 'open'

-- name: reopen_wait
-- One whose expiry made the execution fail: asked anew once the flow comes to it.
update kitaru.waits
set state = 'aborted'
where execution = $1 and identity = $2 and state = 'expired'

-- name: wait_is_closed
-- Whether one of these (JSON list of hex) is closed.
select exists (
    select 1 from kitaru.waits
    where execution = $1 and identity in (select decode(jsonb_array_elements_text($2::jsonb), 'hex'))
        and state <> 'open')

-- name: list_waits
select id, identity, kind, label, name, question, schema, metadata, branch, call, opened_at,
    expires_at, default_codec, default_data, default_checksum, state, closed_at, closed_by,
    codec, data, checksum
from kitaru.waits where execution = $1 order by id

-- name: find_wait
select id, identity, kind, label, name, question, schema, metadata, branch, call, opened_at,
    expires_at, default_codec, default_data, default_checksum, state, closed_at, closed_by,
    codec, data, checksum
from kitaru.waits where execution = $1 and identity = $2

-- name: list_open_waits
select e.exec_id, e.flow_name, e.status,
    w.id, w.identity, w.kind, w.label, w.name, w.question, w.schema, w.metadata, w.branch, w.call,
    w.opened_at, w.expires_at, w.default_codec, w.default_data, w.default_checksum, w.state,
    w.closed_at, w.closed_by, w.codec, w.data, w.checksum
from kitaru.waits as w
join kitaru.executions as e on e.id = w.execution
where w.state = 'open' and e.project = $1
order by w.opened_at, w.id limit $2
