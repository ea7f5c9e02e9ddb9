-- Leases: a process that owns proves that it lives by renewing its right to. Null where a
-- lock file says it, as on one host.

alter table owners add column lease_until integer;
-- From when on the lease has never run out.
alter table owners add column steady_since integer;

drop view owners_view;

create view owners_view as
select
    o.id as owner,
    o.pid,
    o.host,
    strftime('%Y-%m-%dT%H:%M:%fZ', o.started_at / 1e6, 'unixepoch') as started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', o.died_at / 1e6, 'unixepoch') as died_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', o.lease_until / 1e6, 'unixepoch') as lease_until,
    (select count(*) from executions as e where e.owner = o.id) as executions
from owners as o;
