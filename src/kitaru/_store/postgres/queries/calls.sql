-- Calls: their outcomes, written once, and how they are recalled and reused.

-- name: add_call
-- event: none (owned)
-- The columns stand in the order of CallRow. Zero rows if the epoch does not rule or if an
-- outcome stands. The row of the execution is locked by the statement that asks for its
-- epoch: without that, an insert that began before a takeover would be let through after it.
with held as materialized (
    select id from kitaru.executions
    where id = $1 and epoch = $2 and status in ('running', 'cancelling')
    for share)
insert into kitaru.calls (
    execution, identity, attempt, state, source, seq, place, n, checkpoint, named, kind, parent,
    parent_attempt, branch, arguments, inputs, inputs_digest, reuse_key, code, reused_from,
    reason, metadata, retry_at, started_at, ended_at, codec, data, checksum)
select id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
    $21, $22, $23, $24, $25, $26, $27, $28, $29
from held
where not exists (
    select 1 from kitaru.calls
    where execution = $1 and identity = $3 and (state = 'completed' or attempt = $4))
on conflict do nothing

-- name: reopen_call
update kitaru.calls
set reopened = 1
where execution = $1 and identity = $2 and state = 'failed' and retry_at is null and reopened = 0

-- name: load_outcomes
-- Ids from the index, rows in the order of their ids: neighbours are read once.
select id, identity, attempt, state, retry_at, reopened, reused_from from kitaru.calls
where id in (select id from kitaru.calls where execution = $1) order by id

-- name: load_payloads
select id, codec, data, checksum from kitaru.calls
where id in (select jsonb_array_elements_text($2::jsonb)::bigint) and execution = $1 order by id

-- name: load_seconds
select id, ended_at - started_at from kitaru.calls
where id in (select jsonb_array_elements_text($2::jsonb)::bigint) and execution = $1 order by id

-- name: load_payload
select codec, data, checksum, checkpoint,
    (select exec_id from kitaru.executions where id = execution)
from kitaru.calls where id = $1

-- name: list_places
select parent, parent_attempt, branch, checkpoint, identity, place, arguments from kitaru.calls
where id in (select id from kitaru.calls where execution = $1) and state = 'completed'
order by place, id

-- name: find_reusable
select c.id, e.exec_id, c.identity, c.started_at, c.ended_at, c.codec, c.data, c.checksum
from kitaru.calls as c
join kitaru.executions as e on e.id = c.execution
where c.reuse_key = $1 and c.state = 'completed' and c.execution <> $2
    and c.id < coalesce($3::bigint, 9223372036854775807)
    and c.ended_at >= coalesce($4::bigint, -9223372036854775808)
order by c.id desc limit 1

-- name: sample_arguments
select arguments from kitaru.calls
where id in (select id from kitaru.calls where execution = $1) and checkpoint = $2 order by id limit $3

-- name: count_outcomes
-- Answered from calls_by_identity alone: its rows are small, those of calls are not.
select (outcome = 0)::int, count(*)
from (
    select (case state when 'completed' then 0 else attempt end) as outcome
    from kitaru.calls
    where execution = (select id from kitaru.executions where exec_id = $1)
    limit $2) as found
group by 1

-- name: list_samples
select id, arguments, inputs from kitaru.calls
where id in (select id from kitaru.calls where execution = $1 and id < $3) and checkpoint = $2
order by id desc limit $4

-- name: find_checkpoint
select checkpoint from kitaru.calls where execution = $1 and identity = $2 order by id limit 1

-- name: list_calls
select c.id, c.identity, c.attempt, c.state, c.source, c.seq, c.place, c.n, c.checkpoint,
    c.named, c.kind, c.parent, c.parent_attempt, c.branch, c.arguments, c.inputs,
    c.inputs_digest, c.reuse_key, c.code, c.reused_from, c.reason, c.metadata, c.retry_at,
    c.started_at, c.ended_at, c.codec, c.data, c.checksum, c.reopened,
    coalesce(s.exec_id, t.exec_id, g.exec_id) || ':'
        || encode(coalesce(r.identity, g.identity), 'hex')
from kitaru.calls as c
left join kitaru.calls as r on r.id = c.reused_from
left join kitaru.executions as s on s.id = r.execution
left join kitaru.tombstones as t on t.execution = r.execution
left join kitaru.gone_calls as g on g.id = c.reused_from
where c.id in (select id from kitaru.calls where execution = $1 and id > $2 order by id limit $3)
order by c.id

-- name: list_past
select id, identity, attempt, state, retry_at, reopened, source, seq, place, checkpoint, named,
    parent, parent_attempt, branch, arguments, code, metadata, started_at, ended_at
from kitaru.calls
where id in (select id from kitaru.calls where execution = $1 and id <= $2) order by id
