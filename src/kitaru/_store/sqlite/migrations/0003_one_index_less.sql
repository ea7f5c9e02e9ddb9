-- Each index is one more page in every commit. What asks for the calls of one
-- execution finds their ids in calls_by_identity, which begins with it, and
-- reads the rows in the order of their ids.
drop index calls_by_execution;
