-- Blobs: large values. Only PostgreSQL keeps them in a table.

-- name: keep_blob
insert into kitaru.blobs (digest, data, written_at) values ($1, $2, $3)
on conflict (digest) do update set written_at = greatest(kitaru.blobs.written_at, excluded.written_at)
returning 1

-- name: find_blob
select data from kitaru.blobs where digest = $1

-- name: lock_blob
select 1 from kitaru.blobs where digest = $1 for share

-- name: lock_blob_to_drop
select 1 from kitaru.blobs where digest = $1 for update

-- name: drop_blob
delete from kitaru.blobs where digest = $1

-- name: list_blobs
select digest, octet_length(data)::int8 from kitaru.blobs where written_at < $1
