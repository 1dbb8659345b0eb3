-- Patients as their identifiers name them. A study without a Patient ID has a patient of its own:
-- nobody is merged silently.
CREATE TABLE patients (
    patient INTEGER PRIMARY KEY,
    issuer TEXT NOT NULL,
    patient_id TEXT NOT NULL,
    names TEXT NOT NULL,        -- JSON array of PN strings, the newest first
    birth_date TEXT NOT NULL,
    sex TEXT NOT NULL,
    other_ids TEXT NOT NULL     -- JSON array of [issuer, value]
);
CREATE UNIQUE INDEX patients_identifier ON patients (patient_id, issuer) WHERE patient_id <> '';
CREATE INDEX patients_birth_date ON patients (birth_date);

-- One row for each component group of each name, as `patients.folded` writes it.
CREATE TABLE patient_names (
    name TEXT NOT NULL,
    patient INTEGER NOT NULL REFERENCES patients ON DELETE CASCADE,
    PRIMARY KEY (name, patient)
) WITHOUT ROWID;
CREATE INDEX patient_names_patient ON patient_names (patient);

CREATE TABLE studies (
    study_instance_uid TEXT PRIMARY KEY,
    patient INTEGER NOT NULL REFERENCES patients,
    wrapped_key BLOB NOT NULL,
    study_date TEXT NOT NULL,
    study_time TEXT NOT NULL,
    timezone TEXT NOT NULL,
    study_id TEXT NOT NULL,
    description TEXT NOT NULL,
    accession_number TEXT NOT NULL,
    accession_issuer TEXT NOT NULL,
    referring_physician TEXT NOT NULL,
    institution TEXT NOT NULL,
    origin BLOB,                 -- the facility it was retrieved from; NULL: our own
    received_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL, -- when its last instance came
    settled_at INTEGER,          -- NULL: instances are still coming
    held_back INTEGER NOT NULL DEFAULT 0,
    held_reason TEXT NOT NULL DEFAULT '',
    manifest_version INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX studies_patient ON studies (patient);
CREATE INDEX studies_date ON studies (study_date);
CREATE INDEX studies_accession ON studies (accession_number) WHERE accession_number <> '';
CREATE INDEX studies_unsettled ON studies (changed_at) WHERE settled_at IS NULL;

CREATE TABLE series (
    series INTEGER PRIMARY KEY,
    study_instance_uid TEXT NOT NULL REFERENCES studies ON DELETE CASCADE,
    series_instance_uid TEXT NOT NULL,
    modality TEXT NOT NULL,
    series_number INTEGER,
    description TEXT NOT NULL,
    body_part TEXT NOT NULL,
    laterality TEXT NOT NULL,
    protocol_name TEXT NOT NULL,
    step_date TEXT NOT NULL,
    step_time TEXT NOT NULL,
    station_name TEXT NOT NULL,
    manufacturer TEXT NOT NULL,
    instances INTEGER NOT NULL DEFAULT 0,    -- counted here: a worklist must not
    stored_bytes INTEGER NOT NULL DEFAULT 0, -- read every instance
    UNIQUE (study_instance_uid, series_instance_uid)
);
CREATE INDEX series_uid ON series (series_instance_uid);
CREATE INDEX series_modality ON series (modality, study_instance_uid);

CREATE TABLE packs (
    pack_id BLOB PRIMARY KEY,
    study_instance_uid TEXT NOT NULL REFERENCES studies ON DELETE CASCADE,
    wrapped_key BLOB NOT NULL,
    bytes INTEGER NOT NULL       -- what is durable: a longer file has a torn tail
) WITHOUT ROWID;
CREATE INDEX packs_study ON packs (study_instance_uid);

CREATE TABLE instances (
    sop_instance_uid TEXT PRIMARY KEY,
    series INTEGER NOT NULL REFERENCES series ON DELETE CASCADE,
    sop_class_uid TEXT NOT NULL,
    transfer_syntax_uid TEXT NOT NULL,
    instance_number INTEGER,
    number_of_frames INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    columns INTEGER NOT NULL,
    bits_allocated INTEGER NOT NULL,
    notes TEXT NOT NULL,         -- space-separated codes of what was odd
    length INTEGER NOT NULL,
    header_length INTEGER NOT NULL,
    content_hash BLOB NOT NULL,
    data_set_hash BLOB NOT NULL,
    pack_id BLOB NOT NULL REFERENCES packs ON DELETE CASCADE,
    first_chunk INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    chunk_hashes BLOB NOT NULL   -- 32 bytes for each chunk
);
CREATE INDEX instances_series ON instances (series);
CREATE INDEX instances_pack ON instances (pack_id);
CREATE INDEX instances_content ON instances (content_hash);

-- Every version that was signed: a granted version stays servable while its grant lives.
CREATE TABLE manifests (
    study_instance_uid TEXT NOT NULL REFERENCES studies ON DELETE CASCADE,
    version INTEGER NOT NULL,
    manifest BLOB NOT NULL,
    signature BLOB NOT NULL,
    root BLOB NOT NULL,
    made_at INTEGER NOT NULL,
    PRIMARY KEY (study_instance_uid, version)
) WITHOUT ROWID;
