-- Single values: one row for each key.
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

-- The audit chain. `record` is the canonical JSON that `hash` covers; every column that is searched
-- is computed from it, so that there is nothing beside it to forge.
CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    record TEXT NOT NULL,
    hash BLOB NOT NULL,
    at INTEGER GENERATED ALWAYS AS (json_extract(record, '$.at')) VIRTUAL,
    patient TEXT GENERATED ALWAYS AS (json_extract(record, '$.patient')) VIRTUAL,
    study_instance_uid TEXT
        GENERATED ALWAYS AS (json_extract(record, '$.study_instance_uid')) VIRTUAL
);
CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_patient ON audit (patient) WHERE patient <> '';
CREATE INDEX audit_study ON audit (study_instance_uid) WHERE study_instance_uid <> '';

-- How long the chain is, and where it ends: without it a cut tail would go unnoticed.
CREATE TABLE audit_head (
    only INTEGER PRIMARY KEY CHECK (only = 0),
    records INTEGER NOT NULL,
    hash BLOB NOT NULL,
    seal BLOB NOT NULL
);

-- Against our own mistakes; whoever can drop a trigger is caught by the chain.
CREATE TRIGGER audit_is_never_altered BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit records are never altered');
END;
CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit records are never deleted');
END;
