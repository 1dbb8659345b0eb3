-- The partners' journals: ciphertext and signatures, nothing that is readable without their keys.
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

-- Where to look a searcher's label up: the labels stand open in the sealed bodies.
CREATE TABLE journal_labels (
    label BLOB NOT NULL,
    journal INTEGER NOT NULL REFERENCES journals ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    PRIMARY KEY (label, journal, seq)
) WITHOUT ROWID;

-- The last HAVE of each partner, as signed. `in_step_at`: when it last named the head that we hold
-- of its journal, so that nothing was outstanding.
CREATE TABLE witnesses (
    partner BLOB PRIMARY KEY,
    payload BLOB NOT NULL,
    signature BLOB NOT NULL,
    heard_at INTEGER NOT NULL,
    in_step_at INTEGER
) WITHOUT ROWID;

-- When a partner first said that it had applied our journal up to `last_seq`.
CREATE TABLE acknowledgements (
    partner BLOB NOT NULL,
    last_seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (partner, last_seq)
) WITHOUT ROWID;

-- Proofs that an origin signed two histories. They outlive the partnership.
CREATE TABLE forks (
    origin BLOB PRIMARY KEY,
    first_header BLOB NOT NULL,
    first_signature BLOB NOT NULL,
    second_header BLOB NOT NULL,
    second_signature BLOB NOT NULL,
    found_at INTEGER NOT NULL
) WITHOUT ROWID;
