-- A journal that was halted before there was a way to recover it.
UPDATE meta SET value = CAST('behind' AS BLOB) WHERE key = 'journal.halted';

-- Patients of whom something changed while our journal could not be written, and since when.
CREATE TABLE deferred_publications (
    patient INTEGER PRIMARY KEY,
    since INTEGER NOT NULL
);

-- Patients of whom nothing is published, and nothing given out, until somebody has looked at them:
-- the journal withdrew what the index, set back to a backup, would publish again.
CREATE TABLE patient_holds (
    issuer TEXT NOT NULL,
    patient_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (issuer, patient_id)
) WITHOUT ROWID;
