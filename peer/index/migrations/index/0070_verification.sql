-- The check of every stored instance that is under way, or the last one that was: one row at most.
-- Instants: Unix seconds.
CREATE TABLE verification (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    began_at INTEGER NOT NULL,
    ended_at INTEGER,
    after_pack BLOB NOT NULL,    -- packs up to this id are checked
    packs INTEGER NOT NULL,
    instances INTEGER NOT NULL,
    bytes INTEGER NOT NULL
);
CREATE TABLE damaged_instances (
    sop_instance_uid TEXT PRIMARY KEY REFERENCES instances ON DELETE CASCADE,
    found_at INTEGER NOT NULL,
    reason TEXT NOT NULL
) WITHOUT ROWID;
