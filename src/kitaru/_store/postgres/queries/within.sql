-- Within: an execution that is started in a transaction of the program's own. The role of
-- that connection needs what stands here, and no more.

-- name: look_within
-- The number of the transaction, which database of which running server this is, and whether the
-- transaction sees nothing of what is committed from now on.
select pg_current_xact_id()::text,
    (select oid::int8 from pg_database where datname = current_database()),
    (extract(epoch from pg_postmaster_start_time()) * 1000000)::int8,
    current_database()::text, current_user::text,
    current_setting('transaction_isolation') in ('repeatable read', 'serializable')

-- name: start_within
-- event: none (born)
-- Nothing is looked for first: under SERIALIZABLE each look would be a reason to fail.
insert into kitaru.executions (
    exec_id, project, flow_id, flow_name, key, inputs_digest, seed, spec, tags,
    code_folder, code_module, status, epoch, owner, home, created_at, started_at,
    parent_exec_id, parent_call, original_exec_id, deadline_at, keep_seconds,
    queue, priority, limit_key, due_at, inputs_codec, inputs_data, inputs_checksum)
select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
    $21, $22, $23, $24, $25, $26, $27, $28, $29
where $30::bigint is null or exists (
    select 1 from kitaru.executions where exec_id = $18 and epoch = $30 and status = 'running')
on conflict do nothing
returning id

-- name: fate_of
-- What became of a transaction: in progress, committed, aborted; null: nobody knows any more.
select pg_xact_status($1::text::xid8)
