-- Blobs: large values. Only PostgreSQL keeps them, or where they are, in a table.

-- name: touch_blob
-- A row that is there counts as new again. Of its keys nothing is changed: a transaction that
-- has locked it, and goes on for long, holds nobody up.
update kitaru.blobs set written_at = greatest(written_at, $2) where digest = $1
returning address

-- name: keep_blob
-- A row that is there counts as new again, and takes the bytes in if it had an address only:
-- who brings bytes may not be able to look whether the object is there.
insert into kitaru.blobs as b (digest, data, address, size, written_at) values ($1, $2, $3, $4, $5)
on conflict (digest) do update set
    data = coalesce(b.data, excluded.data),
    address = case when coalesce(b.data, excluded.data) is null then b.address end,
    written_at = greatest(b.written_at, excluded.written_at)
returning address

-- name: find_blob
select data, address from kitaru.blobs where digest = $1

-- name: lock_blob
-- It cannot be dropped; whoever keeps the same bytes meanwhile is not held up.
select 1 from kitaru.blobs where digest = $1 for key share

-- name: lock_blob_to_drop
select 1 from kitaru.blobs where digest = $1 for update

-- name: drop_blob
delete from kitaru.blobs where digest = $1

-- name: list_blobs
select digest, size from kitaru.blobs where written_at < $1

-- name: known_objects
select address from kitaru.blobs where address = any ($1::text[])
