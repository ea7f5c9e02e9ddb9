-- Intents: recorded before the body of a call with effect="once" starts.

-- name: add_intent
-- event: none (owned)
-- One that stands there was judged by a person since: it begins anew.
with held as materialized (
    select id from kitaru.executions
    where id = $1 and epoch = $2 and status in ('running', 'cancelling')
    for share)
insert into kitaru.intents (
    execution, identity, attempt, seq, place, n, checkpoint, named, kind, parent, parent_attempt,
    branch, arguments, inputs, inputs_digest, at)
select id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17 from held
on conflict (execution, identity, attempt) do update set at = excluded.at

-- name: list_intents
select identity, attempt, seq, place, n, checkpoint, named, kind, parent, parent_attempt, branch,
    arguments, inputs, inputs_digest, at
from kitaru.intents where execution = $1 order by id
