-- Owners: processes that may own executions.

-- name: register_owner
insert into owners (lock_name, pid, host, started_at) values (?1, ?2, ?3, ?4) returning id

-- name: declare_dead
update owners set died_at = ?2 where id = ?1 and died_at is null

-- name: owner_by_id
select id, lock_name, pid, host, started_at, died_at from owners where id = ?1

-- name: list_owners
select id, lock_name, pid, host, started_at, died_at from owners where died_at is null order by id
