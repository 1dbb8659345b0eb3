-- Our own journal. The tables are those that keep the journals of partners (partners/0001).
CREATE TABLE journals (
    journal INTEGER PRIMARY KEY,
    origin BLOB NOT NULL UNIQUE
);

-- Signed headers, exactly as signed. They are evidence and are never deleted with their entries.
CREATE TABLE journal_batches (
    journal INTEGER NOT NULL REFERENCES journals ON DELETE CASCADE,
    epoch INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    header BLOB NOT NULL,
    signature BLOB NOT NULL,
    PRIMARY KEY (journal, epoch, batch)
) WITHOUT ROWID;

-- What is secret until it is withdrawn. SQLite overwrites what it deletes, but not the copies that
-- stay behind where it moves a row from one page to another. So these rows never move: they are only
-- appended, never deleted, and erased by zeros of the same length in their place.
CREATE TABLE journal_bodies (
    id INTEGER PRIMARY KEY,
    salt BLOB NOT NULL,
    body BLOB NOT NULL
);

-- `commitment` is NULL for a withdrawal; `body` is NULL where the body never came or was erased.
CREATE TABLE journal_entries (
    journal INTEGER NOT NULL REFERENCES journals ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    entry_id BLOB NOT NULL,
    commitment BLOB,
    body INTEGER REFERENCES journal_bodies,
    PRIMARY KEY (journal, seq)
) WITHOUT ROWID;

-- How each entry id stands: live at `seq` with `leaf`, or withdrawn at `seq` (leaf is NULL).
CREATE TABLE journal_standings (
    journal INTEGER NOT NULL REFERENCES journals ON DELETE CASCADE,
    entry_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    leaf BLOB,
    PRIMARY KEY (journal, entry_id)
) WITHOUT ROWID;

-- Live entries that came without their body: to be asked for again.
CREATE TABLE journal_missing (
    journal INTEGER NOT NULL REFERENCES journals ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    PRIMARY KEY (journal, seq)
) WITHOUT ROWID;
