-- Meta: what this store is.

-- name: create_meta
insert into kitaru.meta (one, schema_version, store_id, created_at) values (1, $1, $2, $3)

-- name: read_meta
select schema_version, store_id, generation, created_at from kitaru.meta

-- name: set_schema_version
update kitaru.meta set schema_version = $1
