-- Partners' patients of whom their origin has said: this is the person you ask for.
CREATE TABLE opened_confirmed (
    opened INTEGER NOT NULL REFERENCES opened_patients ON DELETE CASCADE,
    person BLOB NOT NULL,            -- protocol.identify.person_hash
    PRIMARY KEY (person, opened)
) WITHOUT ROWID;
CREATE INDEX opened_confirmed_opened ON opened_confirmed (opened);

-- What partners have asked about records of ours at which their question only hinted.
CREATE TABLE identity_questions (
    question INTEGER PRIMARY KEY,
    partner BLOB NOT NULL,
    person BLOB NOT NULL,            -- protocol.identify.person_hash
    patient INTEGER NOT NULL,
    asked_at INTEGER NOT NULL,
    clinician TEXT NOT NULL,         -- the partner's pseudonym
    purpose TEXT NOT NULL,
    description BLOB,                -- protocol.identify.Person, while someone here must look
    decided_at INTEGER,
    decided_by TEXT,
    same INTEGER,                    -- what someone here has said; NULL: nobody had to, or has yet
    UNIQUE (partner, person, patient)
);
CREATE INDEX identity_questions_asked ON identity_questions (partner, asked_at);
