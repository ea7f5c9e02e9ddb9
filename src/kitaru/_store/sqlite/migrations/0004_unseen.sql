-- What the fingerprint of this version cannot see, in words: a JSON list. Whoever
-- asks why later has not loaded the code, and imports nothing to find out.
alter table codes add column unseen text;
