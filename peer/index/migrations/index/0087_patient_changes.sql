-- Whom a patient was merged into: its identifier means that patient from then on.
ALTER TABLE patients ADD COLUMN merged_into INTEGER REFERENCES patients ON DELETE CASCADE;
CREATE INDEX patients_merged ON patients (merged_into) WHERE merged_into IS NOT NULL;

-- Merges and splits, with what it takes to undo them.
CREATE TABLE patient_changes (
    change INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,              -- merge, split
    from_patient INTEGER NOT NULL,   -- whose the studies were
    to_patient INTEGER NOT NULL,     -- whose they have become
    before TEXT NOT NULL,            -- JSON of whom they went to: names, birth_date, sex, other_ids
    moved TEXT NOT NULL,             -- JSON array of Study Instance UIDs
    made_at INTEGER NOT NULL,
    made_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    undone_at INTEGER
);
