-- Calls: their outcomes, written once, and how they are recalled and reused.

-- name: add_call
-- event: none (owned)
-- The columns stand in the order of CallRow. Zero rows if the epoch does not rule or
-- if an outcome stands: the columns that would be null then may not be. Not insert ..
-- select: where that reads `calls` too, SQLite makes a temporary table for each row.
insert or ignore into calls (
    execution, identity, attempt, state, source, seq, place, n, checkpoint, named, kind, parent,
    parent_attempt, branch, arguments, inputs, inputs_digest, reuse_key, code, reused_from,
    reason, metadata, retry_at, started_at, ended_at, codec, data, checksum)
values (
    (select id from executions
        where id = ?1 and epoch = ?2 and status in ('running', 'cancelling')),
    ?3,
    -- The unique index refuses a second success and a second failure of one
    -- attempt; a failure beside a success, or the other way round, it cannot see.
    case when exists (
        select 1 from calls
        where execution = ?1 and identity = ?3
            and (case state when 'completed' then 0 else attempt end) =
                (case ?5 when 'completed' then ?4 else 0 end))
        then null else ?4 end,
    ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23,
    ?24, ?25, ?26, ?27, ?28, ?29)

-- name: reopen_call
update calls
set reopened = 1
where execution = ?1 and identity = ?2 and state = 'failed' and retry_at is null and reopened = 0

-- name: load_outcomes
-- Ids from the index, rows in the order of their ids: neighbours are read once.
select id, identity, attempt, state, retry_at, reopened, reused_from from calls
where id in (select id from calls where execution = ?1) order by id

-- name: load_payloads
select id, codec, data, checksum from calls
where id in (select value from json_each(?2)) and +execution = ?1 order by id

-- name: load_seconds
select id, ended_at - started_at from calls
where id in (select value from json_each(?2)) and +execution = ?1 order by id

-- name: load_payload
select codec, data, checksum, checkpoint,
    (select exec_id from executions where id = execution)
from calls where id = ?1

-- name: list_places
select parent, parent_attempt, branch, checkpoint, identity, place, arguments from calls
where id in (select id from calls where execution = ?1) and state = 'completed'
order by place, id

-- name: find_reusable
select c.id, e.exec_id, c.identity, c.started_at, c.ended_at, c.codec, c.data, c.checksum
from calls as c
join executions as e on e.id = c.execution
where c.reuse_key = ?1 and c.state = 'completed' and c.execution <> ?2
    and c.id < coalesce(?3, 9223372036854775807)
    and c.ended_at >= coalesce(?4, -9223372036854775808)
order by c.id desc limit 1

-- name: sample_arguments
select arguments from calls
where id in (select id from calls where execution = ?1) and checkpoint = ?2 order by id limit ?3

-- name: count_outcomes
-- Answered from calls_by_identity alone: its rows are small, those of calls are not.
select outcome = 0, count(*)
from (
    select (case state when 'completed' then 0 else attempt end) as outcome
    from calls indexed by calls_by_identity
    where execution = (select id from executions where exec_id = ?1)
    limit ?2)
group by 1

-- name: list_samples
select id, arguments, inputs from calls
where id in (select id from calls where execution = ?1 and id < ?3) and checkpoint = ?2
order by id desc limit ?4

-- name: find_checkpoint
select checkpoint from calls where execution = ?1 and identity = ?2 order by +id limit 1

-- name: list_calls
select c.id, c.identity, c.attempt, c.state, c.source, c.seq, c.place, c.n, c.checkpoint,
    c.named, c.kind, c.parent, c.parent_attempt, c.branch, c.arguments, c.inputs,
    c.inputs_digest, c.reuse_key, c.code, c.reused_from, c.reason, c.metadata, c.retry_at,
    c.started_at, c.ended_at, c.codec, c.data, c.checksum, c.reopened,
    coalesce(s.exec_id, t.exec_id, g.exec_id) || ':'
        || lower(hex(coalesce(r.identity, g.identity)))
from calls as c
left join calls as r on r.id = c.reused_from
left join executions as s on s.id = r.execution
left join tombstones as t on t.execution = r.execution
left join gone_calls as g on g.id = c.reused_from
where c.id in (select id from calls where execution = ?1 and id > ?2 order by id limit ?3)
order by c.id

-- name: list_past
select id, identity, attempt, state, retry_at, reopened, source, seq, place, checkpoint, named,
    parent, parent_attempt, branch, arguments, code, metadata, started_at, ended_at
from calls
where id in (select id from calls where execution = ?1 and id <= ?2) order by id
