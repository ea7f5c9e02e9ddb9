-- Meta: what this store is.

-- name: create_meta
insert into meta (one, schema_version, store_id, project, created_at) values (1, 0, ?1, ?2, ?3)

-- name: read_meta
select schema_version, store_id, project, created_at from meta

-- name: set_schema_version
update meta set schema_version = ?1

-- name: set_root
update meta set root = ?1 where root is null

-- name: read_root
select root from meta
