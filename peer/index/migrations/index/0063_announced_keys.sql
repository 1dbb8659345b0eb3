-- Which entry of our journal announces the search key of a key epoch. While it is live it also stands
-- among `slot_filler_entries`, and ends with its epoch like them.
CREATE TABLE announced_keys (
    key_epoch INTEGER PRIMARY KEY,
    entry_id BLOB NOT NULL
);
