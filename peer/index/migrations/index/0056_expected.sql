-- Patients who are expected, and are searched for before anybody asks.
CREATE TABLE expected (
    expected INTEGER PRIMARY KEY,
    question TEXT NOT NULL,          -- JSON: name, birth_date, sex, identifiers
    asker TEXT NOT NULL,             -- JSON: in whose name and for what purpose
    added_at INTEGER NOT NULL,
    until INTEGER NOT NULL,          -- from then on it is neither searched for nor kept
    due_at INTEGER,                  -- when it is searched for next; NULL: done
    tried_at INTEGER,
    missing TEXT NOT NULL DEFAULT '',  -- facilities yet to be searched, in hex; '' before the first time
    studies INTEGER NOT NULL DEFAULT 0,
    sentence TEXT NOT NULL DEFAULT ''  -- of the last search: what it covered, or why it was refused
);
CREATE INDEX expected_due ON expected (due_at) WHERE due_at IS NOT NULL;
