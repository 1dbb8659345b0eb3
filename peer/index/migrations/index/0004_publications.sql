-- What our journal says at present, and what it must never say twice.

-- One patient as published to one audience (empty: every partner; else the PeerId of the one).
CREATE TABLE published_patients (
    published INTEGER PRIMARY KEY,
    patient INTEGER NOT NULL,
    audience BLOB NOT NULL,
    key_epoch INTEGER NOT NULL,
    patient_key BLOB NOT NULL,
    entry_id BLOB NOT NULL UNIQUE,
    content_hash BLOB NOT NULL,      -- of card and match keys: another one needs a new patient key
    next_position INTEGER NOT NULL,  -- in the chain of studies; it only grows
    UNIQUE (patient, audience)
);

-- One study of such a patient, or a filler in its chain (study_instance_uid is NULL).
CREATE TABLE published_studies (
    entry_id BLOB PRIMARY KEY,
    published INTEGER NOT NULL REFERENCES published_patients ON DELETE CASCADE,
    position INTEGER NOT NULL,
    study_instance_uid TEXT,
    retrieve_handle BLOB UNIQUE,
    content_hash BLOB,
    UNIQUE (published, position),
    UNIQUE (published, study_instance_uid)
) WITHOUT ROWID;
CREATE INDEX published_studies_uid ON published_studies (study_instance_uid);

-- Every handle that ever stood in a digest: whoever comes with one of a study that was withdrawn since
-- is told why, and the record says which study it was.
CREATE TABLE retrieve_handles (
    retrieve_handle BLOB PRIMARY KEY,
    study_instance_uid TEXT NOT NULL
) WITHOUT ROWID;

-- The chain of one match key in one audience and key epoch, known by the key's output.
CREATE TABLE slot_chains (
    chain INTEGER PRIMARY KEY,
    output BLOB NOT NULL UNIQUE,
    audience BLOB NOT NULL,
    key_epoch INTEGER NOT NULL,
    next_position INTEGER NOT NULL   -- it only grows, within the key epoch
);
CREATE INDEX slot_chains_epoch ON slot_chains (audience, key_epoch);

-- The positions in use: by a patient, or by a filler (published is NULL).
CREATE TABLE slots (
    chain INTEGER NOT NULL REFERENCES slot_chains ON DELETE CASCADE,
    position INTEGER NOT NULL,
    published INTEGER REFERENCES published_patients ON DELETE CASCADE,
    PRIMARY KEY (chain, position)
) WITHOUT ROWID;
CREATE INDEX slots_published ON slots (published);

-- Entries that hold filler slots only. They stay until their key epoch ends.
CREATE TABLE slot_filler_entries (
    entry_id BLOB PRIMARY KEY,
    audience BLOB NOT NULL,
    key_epoch INTEGER NOT NULL
) WITHOUT ROWID;

-- Current key epoch of an audience; 1 if it is not listed.
CREATE TABLE key_epochs (
    audience BLOB PRIMARY KEY,
    key_epoch INTEGER NOT NULL
) WITHOUT ROWID;

-- Partners who may have learned outputs under the current keys of every partner's audience.
CREATE TABLE key_holders (
    peer_id BLOB PRIMARY KEY
) WITHOUT ROWID;

-- When to look at a patient again although nothing happens: a consent begins or ends.
CREATE TABLE publication_reviews (
    patient INTEGER PRIMARY KEY,
    due_at INTEGER NOT NULL
);
CREATE INDEX publication_reviews_due ON publication_reviews (due_at);
