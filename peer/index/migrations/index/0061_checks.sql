-- Studies that people here know to be at a partner, and whether they were found there. `patient` is
-- JSON: name, birth_date, sex, identifiers. `found_uid`: of the study that was found. `code`: why the
-- check does not count. Instants: Unix seconds.
CREATE TABLE checks (
    number INTEGER PRIMARY KEY,
    partner BLOB NOT NULL,
    patient TEXT NOT NULL,
    study_date TEXT NOT NULL,
    accession_number TEXT NOT NULL,
    study_instance_uid TEXT NOT NULL,
    modality TEXT NOT NULL,
    named_by TEXT NOT NULL,
    named_at INTEGER NOT NULL,
    checked_at INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    found_uid TEXT NOT NULL,
    code TEXT NOT NULL
);
CREATE INDEX checks_partner ON checks (partner, checked_at);
