-- Logs: what executions printed. Only PostgreSQL keeps them in the database.

-- name: append_logs
with line as (select value as v from jsonb_array_elements($1::text::jsonb)),
appended as (
    insert into kitaru.logs (exec_id, epoch, number, before, data, size, written_at)
    select v ->> 0, (v ->> 1)::bigint, (v ->> 2)::bigint, (v ->> 3)::bigint, v ->> 4,
        (v ->> 5)::bigint, $2
    from line
    -- A repeat after a lost connection: they are there already.
    on conflict do nothing
    returning 1
)
select count(*) from appended

-- name: log_end
-- The next number of that owner, and how many bytes there were in all.
select
    coalesce(max(number) filter (where epoch = $2) + 1, 0)::int8,
    coalesce(max(before + size), 0)::int8
from kitaru.logs where exec_id = $1

-- name: read_log
select epoch, number, before, data, size from kitaru.logs
where exec_id = $1 and (epoch, number) > ($2, $3)
order by epoch, number
limit $4

-- name: cut_log
with gone as (
    delete from kitaru.logs where exec_id = $1 and before + size <= $2 returning 1
)
select count(*) from gone

-- name: drop_oldest_logs
-- Those that were written longest ago, down to nine tenths of the bound.
with aged as (
    select exec_id, epoch, number, sum(size) over (order by written_at desc, exec_id, epoch, number)
        as newer
    from kitaru.logs
    where (select sum(size) from kitaru.logs) > $1
), gone as (
    delete from kitaru.logs as l using aged
    where l.exec_id = aged.exec_id and l.epoch = aged.epoch and l.number = aged.number
        and aged.newer > $1 * 9 / 10
    returning 1
)
select count(*) from gone

-- name: delete_log
with gone as (delete from kitaru.logs where exec_id = $1 returning 1)
select count(*) from gone
