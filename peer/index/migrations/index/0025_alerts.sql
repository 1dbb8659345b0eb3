-- What people here should look at: who broke the glass, where and why. `partner` is the facility at
-- the other end, NULL if there is none in particular. The same again while it is not acknowledged
-- counts up `times`.
CREATE TABLE alerts (
    alert INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    partner BLOB,
    person TEXT NOT NULL,
    reason TEXT NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    times INTEGER NOT NULL,
    acknowledged_at INTEGER,
    acknowledged_by TEXT NOT NULL DEFAULT ''
);

CREATE INDEX alerts_open ON alerts (kind, partner) WHERE acknowledged_at IS NULL;
