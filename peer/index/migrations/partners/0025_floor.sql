-- What lies below the floor of a journal. `floor`: that of the newest header held. `bare_through`: the
-- last seq of the newest batch that came without its entries, because a later floor lies above it.
ALTER TABLE journals ADD COLUMN floor INTEGER NOT NULL DEFAULT 1;
ALTER TABLE journals ADD COLUMN bare_through INTEGER NOT NULL DEFAULT 0;

-- Bodies are deleted in the end, so entries refer to them without a constraint: SQLite would look
-- through all entries for each body that goes.
CREATE TABLE entries_without_constraint (
    journal INTEGER NOT NULL REFERENCES journals ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    entry_id BLOB NOT NULL,
    commitment BLOB,
    body INTEGER,
    PRIMARY KEY (journal, seq)
) WITHOUT ROWID;
INSERT INTO entries_without_constraint SELECT * FROM journal_entries ORDER BY journal, seq;
DROP TABLE journal_entries;
ALTER TABLE entries_without_constraint RENAME TO journal_entries;

-- Bodies that were erased in place; their rows go where many of them lie side by side.
CREATE TABLE journal_erased (
    body INTEGER PRIMARY KEY
);
INSERT INTO journal_erased SELECT id FROM journal_bodies
    WHERE id NOT IN (SELECT body FROM journal_entries WHERE body IS NOT NULL);
