-- Receipts: whether what a lost connection carried was recorded. The number of a transaction is
-- written by the connection itself (`database.py`), as the transaction begins.

-- name: find_recorded
-- A write of one statement needs no receipt: its row tells by itself whose it is.
select 1 from kitaru.calls
where execution = $1 and identity = $2 and attempt = $3 and started_at = $4 and ended_at = $5
    and checksum = $6
