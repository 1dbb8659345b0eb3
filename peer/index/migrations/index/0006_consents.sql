-- Patients' consent directives. A directive is never altered, only revoked.
CREATE TABLE directives (
    directive_id TEXT PRIMARY KEY,   -- 16 random bytes in hexadecimal
    content TEXT NOT NULL,           -- JSON of scope, recipients, purposes, grantor, evidence
    effective_from INTEGER NOT NULL,
    expires_at INTEGER,
    recorded_at INTEGER NOT NULL,
    revoked_at INTEGER,
    revoked_because TEXT NOT NULL DEFAULT '',
    withdrawn_seq INTEGER            -- of our journal, where the last withdrawal it caused stands
) WITHOUT ROWID;
CREATE INDEX directives_recorded ON directives (recorded_at);

-- Under which identifiers a directive is recorded; the patient need not have a study yet.
CREATE TABLE directive_patients (
    patient_id TEXT NOT NULL,
    issuer TEXT NOT NULL,
    directive_id TEXT NOT NULL REFERENCES directives,
    PRIMARY KEY (patient_id, issuer, directive_id)
) WITHOUT ROWID;
CREATE INDEX directive_patients_directive ON directive_patients (directive_id);
