-- Proofs that an origin signed two histories, one for each epoch: the earliest batch that is known to
-- differ. `told_by`: the partner that had the other history or the proof, NULL: the origin itself.
-- They outlive the partnership.
CREATE TABLE forks_by_epoch (
    origin BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    first_header BLOB NOT NULL,
    first_signature BLOB NOT NULL,
    second_header BLOB NOT NULL,
    second_signature BLOB NOT NULL,
    found_at INTEGER NOT NULL,
    told_by BLOB,
    PRIMARY KEY (origin, epoch)
) WITHOUT ROWID;

-- A fork on record from before names no batch; whatever names one replaces it.
INSERT INTO forks_by_epoch SELECT origin, 0, 9223372036854775807, first_header, first_signature,
    second_header, second_signature, found_at, NULL FROM forks;
DROP TABLE forks;
ALTER TABLE forks_by_epoch RENAME TO forks;

-- The last seq before a fork: what stands beyond it is not listed. NULL: no fork is known.
ALTER TABLE journals ADD COLUMN common_seq INTEGER;

-- Signed headers that came before those between them and the head: kept until they can be compared.
CREATE TABLE orphan_headers (
    journal INTEGER NOT NULL REFERENCES journals ON DELETE CASCADE,
    epoch INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    header BLOB NOT NULL,
    signature BLOB NOT NULL,
    PRIMARY KEY (journal, epoch, batch)
) WITHOUT ROWID;
