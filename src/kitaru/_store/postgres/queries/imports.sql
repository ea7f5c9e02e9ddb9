-- Imports: executions that come with all that is of them, finished, in one transaction.

-- name: import_execution
insert into kitaru.executions (
    exec_id, project, flow_id, flow_name, status, status_reason, epoch, deaths, attempt, key,
    inputs_digest, seed, spec, metadata, tags, code_folder, code_module, created_at, started_at,
    ended_at, parent_exec_id, parent_call, original_exec_id, deadline_at, keep_seconds,
    queue, priority, limit_key, failed_calls, failed_attempt, inputs_codec, inputs_data, inputs_checksum, result_codec,
    result_data, result_checksum)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
    $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36)
returning id

-- name: import_call
insert into kitaru.calls (
    execution, identity, attempt, state, source, seq, place, n, checkpoint, named, kind, parent,
    parent_attempt, branch, arguments, inputs, inputs_digest, reuse_key, code, reused_from,
    reason, metadata, retry_at, started_at, ended_at, codec, data, checksum, reopened)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
    $20, $21, $22, $23, $24, $25, $26, $27, $28, $29)

-- name: import_attempt
insert into kitaru.attempts (execution, attempt, ended_at, codec, data, checksum)
values ($1, $2, $3, $4, $5, $6)

-- name: import_learnt
insert into kitaru.learnt (execution, identity, kind, value) values ($1, $2, $3, $4)

-- name: import_note
insert into kitaru.notes (execution, kind, message, at) values ($1, $2, $3, $4)

-- name: import_wait
insert into kitaru.waits (
    execution, identity, kind, label, name, question, schema, metadata, branch, call, opened_at,
    expires_at, default_codec, default_data, default_checksum, state, closed_at, closed_by, codec,
    data, checksum)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
    $20, $21)

-- name: import_intent
insert into kitaru.intents (
    execution, identity, attempt, seq, place, n, checkpoint, named, kind, parent, parent_attempt,
    branch, arguments, inputs, inputs_digest, at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)

-- name: import_artifact
insert into kitaru.artifacts (
    execution, call, attempt, name, save_type, tags, at, codec, data, checksum)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- name: import_code
insert into kitaru.codes (project, checkpoint, digest, parts, files, unseen, execution)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict do nothing

-- name: call_by_name
select c.id from kitaru.calls as c join kitaru.executions as e on e.id = c.execution
where e.exec_id = $1 and c.identity = $2 and c.state = 'completed'

-- name: gone_call_by_name
select id from kitaru.gone_calls where exec_id = $1 and identity = $2

-- name: import_source
-- One that was never here has a number below zero.
insert into kitaru.gone_calls (id, exec_id, identity)
select least(coalesce(min(id), 0), 0) - 1, $1, $2 from kitaru.gone_calls
returning id
