-- Signed headers of our own journal that partners gave back before those between them and the head.
CREATE TABLE orphan_headers (
    journal INTEGER NOT NULL REFERENCES journals ON DELETE CASCADE,
    epoch INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    header BLOB NOT NULL,
    signature BLOB NOT NULL,
    PRIMARY KEY (journal, epoch, batch)
) WITHOUT ROWID;
