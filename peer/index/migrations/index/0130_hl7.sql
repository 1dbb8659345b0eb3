-- HL7 messages: which were taken, so that they are known again, and those that were refused.
-- Instants: Unix seconds.
CREATE TABLE hl7_taken (
    sender TEXT NOT NULL,        -- its name in the settings
    control_id TEXT NOT NULL,    -- MSH-10
    hash BLOB NOT NULL,          -- of what was sent
    taken_at INTEGER NOT NULL,
    PRIMARY KEY (sender, control_id)
) WITHOUT ROWID;
CREATE INDEX hl7_taken_at ON hl7_taken (taken_at);

CREATE TABLE hl7_parked (
    parked INTEGER PRIMARY KEY,
    sender TEXT NOT NULL,
    control_id TEXT NOT NULL,    -- '' if there was none to be read
    kind TEXT NOT NULL,          -- as ADT^A08, '' if there was none to be read
    hash BLOB NOT NULL,
    content BLOB NOT NULL,       -- what was sent
    answer TEXT NOT NULL,        -- AE, AR
    error TEXT NOT NULL,         -- HL7 table 0357
    reason TEXT NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    times INTEGER NOT NULL
);
CREATE UNIQUE INDEX hl7_parked_once ON hl7_parked (sender, control_id, hash);
