-- What is, or was, collected from PACS: what each listed, and what of it is here.
-- Instants: Unix seconds.
CREATE TABLE collections (
    collection INTEGER PRIMARY KEY,
    title TEXT NOT NULL,         -- AE title of the PACS
    keys TEXT NOT NULL,          -- JSON object: what was asked for, by keyword
    is_scheduled INTEGER NOT NULL,
    state TEXT NOT NULL,         -- listing, fetching, complete, incomplete, failed
    attempts INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    began_at INTEGER NOT NULL,
    ended_at INTEGER
);
CREATE INDEX collections_unfinished ON collections (collection) WHERE ended_at IS NULL;

CREATE TABLE collected_studies (
    collection INTEGER NOT NULL REFERENCES collections ON DELETE CASCADE,
    study_instance_uid TEXT NOT NULL,
    state TEXT NOT NULL,         -- waiting, complete, incomplete
    attempts INTEGER NOT NULL DEFAULT 0,
    listed INTEGER NOT NULL DEFAULT 0,   -- instances that the PACS says it has
    missing TEXT NOT NULL DEFAULT '[]',  -- JSON array: SOP Instance UIDs of it that are not here
    reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (collection, study_instance_uid)
) WITHOUT ROWID;
CREATE INDEX collected_studies_waiting ON collected_studies (collection, attempts)
    WHERE state = 'waiting';
