-- What `why` compares when code has changed: the project's source files as they
-- were when a new version of a checkpoint's code was recorded; and the project
-- that a store was made for.

-- Source files by the digest of their text (BLAKE2b-256), compressed with zlib.
create table sources (
    id integer primary key,
    digest blob not null unique,
    text blob not null
) strict;

-- JSON: module, or part -> hex digest of its source; null: recorded before this existed.
alter table codes add column files text;

-- Null for stores that were made before this existed.
alter table meta add column root text;
