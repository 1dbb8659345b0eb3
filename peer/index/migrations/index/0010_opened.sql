-- Partners' patients that a search has opened: found again while the partner is offline, and their
-- new studies without asking. A row goes when the partner withdraws the patient's entry.
CREATE TABLE opened_patients (
    opened INTEGER PRIMARY KEY,
    origin BLOB NOT NULL,
    entry_id BLOB NOT NULL,
    patient_key BLOB NOT NULL,
    card BLOB NOT NULL,              -- protocol.digest.PatientCard
    birth_date TEXT NOT NULL,        -- as in match keys: day and month sorted
    opened_at INTEGER NOT NULL,
    UNIQUE (origin, entry_id)
);
CREATE INDEX opened_patients_birth_date ON opened_patients (birth_date) WHERE birth_date <> '';

-- Identifiers in the one spelling of match keys.
CREATE TABLE opened_identifiers (
    issuer TEXT NOT NULL,
    value TEXT NOT NULL,
    opened INTEGER NOT NULL REFERENCES opened_patients ON DELETE CASCADE,
    PRIMARY KEY (issuer, value, opened)
) WITHOUT ROWID;
CREATE INDEX opened_identifiers_opened ON opened_identifiers (opened);

-- Under which patient key a listed study is to be opened again.
CREATE TABLE opened_studies (
    opened INTEGER NOT NULL REFERENCES opened_patients ON DELETE CASCADE,
    study_instance_uid TEXT NOT NULL,
    PRIMARY KEY (opened, study_instance_uid)
) WITHOUT ROWID;
CREATE INDEX opened_studies_uid ON opened_studies (study_instance_uid);
