-- Owners: processes that may own executions.

-- name: register_owner
-- ?5: how long its lease is, null: it has none.
insert into owners (lock_name, pid, host, started_at, lease_until, steady_since)
values (?1, ?2, ?3, ?4, ?4 + ?5, iif(?5 is null, null, ?4))
returning id, lock_name, pid, host, started_at, died_at, lease_until, steady_since

-- name: declare_dead
-- One with a lease only by itself (?3); others go by `reap`.
update owners set died_at = ?2
where id = ?1 and died_at is null and (lease_until is null or ?3 = 1)

-- name: beat
-- A lease that was over is renewed like any, but it does not count as renewed in time.
update owners
set lease_until = ?3 + ?2, steady_since = iif(lease_until >= ?3, steady_since, ?3)
where id = ?1 and died_at is null
returning ?3, lease_until

-- name: reap
-- Nobody, while none that is alive has been renewed in time for as long as ?1.
update owners set died_at = ?3
where id in (
        select id from owners
        where died_at is null and lease_until < ?3
        order by lease_until, id limit ?2)
    and exists (
        select 1 from owners
        where died_at is null and lease_until >= ?3 and steady_since <= ?3 - ?1)
returning id, lock_name, pid, host, started_at, died_at, lease_until, steady_since

-- name: owner_by_id
select id, lock_name, pid, host, started_at, died_at, lease_until, steady_since
from owners where id = ?1

-- name: list_owners
select id, lock_name, pid, host, started_at, died_at, lease_until, steady_since
from owners where died_at is null order by id

-- name: read_clock
-- A file has no clock: that of whoever asks.
select ?1
