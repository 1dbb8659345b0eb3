-- Root-signed records that begin an epoch of our journal (docs/protocol/journal.md).
CREATE TABLE journal_epochs (
    origin BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    record BLOB NOT NULL,
    signature BLOB NOT NULL,
    PRIMARY KEY (origin, epoch)
) WITHOUT ROWID;

-- Headers that a later epoch has made void: evidence of what was once signed.
CREATE TABLE journal_superseded (
    origin BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    header BLOB NOT NULL,
    signature BLOB NOT NULL,
    PRIMARY KEY (origin, epoch, batch, header)
) WITHOUT ROWID;
