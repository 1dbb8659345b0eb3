-- What we let partners fetch. Rows outlive the study: they are evidence of a disclosure.
CREATE TABLE grants (
    grant_id BLOB PRIMARY KEY,
    partner BLOB NOT NULL,
    nonce BLOB NOT NULL,             -- of the request: none is answered twice
    study_instance_uid TEXT NOT NULL,
    retrieve_handle BLOB NOT NULL,
    manifest_version INTEGER NOT NULL,
    manifest_root BLOB NOT NULL,
    instances INTEGER NOT NULL,
    person TEXT NOT NULL,            -- the partner's pseudonym for who asked
    role TEXT NOT NULL,
    purpose TEXT NOT NULL,
    issued_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER,              -- when a range was first refused because consent had ended
    receipt_payload BLOB,
    receipt_signature BLOB,
    receipt_at INTEGER,
    UNIQUE (partner, nonce)
) WITHOUT ROWID;
CREATE INDEX grants_study ON grants (study_instance_uid);

-- What we fetch, or fetched, from partners.
CREATE TABLE retrievals (
    retrieval_id BLOB PRIMARY KEY,
    origin BLOB NOT NULL,
    study_instance_uid TEXT NOT NULL,
    actor TEXT NOT NULL,             -- JSON of the Actor on whose behalf it runs
    state TEXT NOT NULL,             -- one of peer.index.transfers.State
    grant_id BLOB,                   -- the latest; its keys are in memory alone
    retrieve_handle BLOB,            -- under which it was given
    manifest_root BLOB,
    manifest_version INTEGER NOT NULL DEFAULT 0,
    instances INTEGER NOT NULL DEFAULT 0,
    verified INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    bytes_verified INTEGER NOT NULL DEFAULT 0,
    code TEXT NOT NULL DEFAULT '',   -- why it waits or ended, and what to do
    reason TEXT NOT NULL DEFAULT '',
    remedy TEXT NOT NULL DEFAULT '',
    started_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    receipt_payload BLOB,
    receipt_signature BLOB,
    receipt_delivered_at INTEGER
) WITHOUT ROWID;
CREATE INDEX retrievals_study ON retrievals (study_instance_uid);
CREATE INDEX retrievals_state ON retrievals (state);

-- The packs that are arriving, and which chunks of each are verified and on the disk: bit n for chunk
-- n, low bit first. No pack arrives for two retrievals.
CREATE TABLE retrieval_packs (
    pack_id BLOB PRIMARY KEY,
    retrieval_id BLOB NOT NULL REFERENCES retrievals ON DELETE CASCADE,
    bitmap BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX retrieval_packs_retrieval ON retrieval_packs (retrieval_id);
