-- Partners' patients whose new studies someone here is told of, since a search has listed them.
CREATE TABLE watched_patients (
    opened INTEGER NOT NULL REFERENCES opened_patients ON DELETE CASCADE,
    watcher TEXT NOT NULL,           -- the pseudonym: it outlives a change of name
    until INTEGER NOT NULL,
    PRIMARY KEY (opened, watcher)
) WITHOUT ROWID;
CREATE INDEX watched_patients_watcher ON watched_patients (watcher);

-- Studies that came after the search, each once.
CREATE TABLE new_priors (
    prior INTEGER PRIMARY KEY,
    opened INTEGER NOT NULL REFERENCES opened_patients ON DELETE CASCADE,
    study_instance_uid TEXT NOT NULL,
    found_at INTEGER NOT NULL,
    posted_at INTEGER,               -- when the webhook was told
    UNIQUE (opened, study_instance_uid)
);
CREATE INDEX new_priors_unposted ON new_priors (prior) WHERE posted_at IS NULL;

-- Whom a new study is news for.
CREATE TABLE new_priors_for (
    prior INTEGER NOT NULL REFERENCES new_priors ON DELETE CASCADE,
    watcher TEXT NOT NULL,
    seen_at INTEGER,
    PRIMARY KEY (watcher, prior)
) WITHOUT ROWID;
CREATE INDEX new_priors_for_prior ON new_priors_for (prior);
