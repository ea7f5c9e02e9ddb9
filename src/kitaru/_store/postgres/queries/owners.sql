-- Owners: processes that may own executions. The server's clock judges (`kitaru.clock`).
-- Who claims or starts holds its owner's row `for key share`, who declares it dead locks it
-- `for update`: these two have an order. A heartbeat waits for the second alone, never for the
-- transactions of its own process, however long they take.

-- name: register_owner
-- $5: how long its lease is, null: it has none.
with clock as materialized (select kitaru.clock($4) as at)
insert into kitaru.owners (lock_name, pid, host, started_at, lease_until, steady_since)
select $1, $2, $3, at, at + $5::bigint, case when $5::bigint is null then null else at end
from clock
returning id, lock_name, pid, host, started_at, died_at, lease_until, steady_since

-- name: declare_dead
-- One with a lease only by itself ($3); others go by `reap`.
with dying as materialized (
    select id from kitaru.owners
    where id = $1 and died_at is null and (lease_until is null or $3 = 1)
    for update)
update kitaru.owners as o set died_at = kitaru.clock($2) from dying where o.id = dying.id

-- name: beat
-- A lease that was over is renewed like any, but it does not count as renewed in time.
with clock as materialized (select kitaru.clock($3) as at)
update kitaru.owners as o
set lease_until = clock.at + $2::bigint,
    steady_since = case when o.lease_until >= clock.at then o.steady_since else clock.at end
from clock
where o.id = $1 and o.died_at is null
returning clock.at, o.lease_until

-- name: reap
-- Nobody, while none that is alive has been renewed in time for as long as $1. A lease that
-- is being renewed, or judged by somebody else, is passed over; `for update` looks at what
-- stands there once the row is locked, so that a renewal and a death cannot both win.
with clock as materialized (select kitaru.clock($3) as at),
over as materialized (
    select o.id from kitaru.owners as o, clock
    where o.died_at is null and o.lease_until < clock.at
        and exists (
            select 1 from kitaru.owners as s
            where s.died_at is null and s.lease_until >= clock.at
                and s.steady_since <= clock.at - $1)
    order by o.lease_until, o.id limit $2
    for update of o skip locked)
update kitaru.owners as o set died_at = clock.at
from over, clock
where o.id = over.id
returning o.id, o.lock_name, o.pid, o.host, o.started_at, o.died_at, o.lease_until, o.steady_since

-- name: owner_by_id
select id, lock_name, pid, host, started_at, died_at, lease_until, steady_since
from kitaru.owners where id = $1

-- name: list_owners
select id, lock_name, pid, host, started_at, died_at, lease_until, steady_since
from kitaru.owners where died_at is null order by id

-- name: read_clock
select kitaru.clock($1)
