-- What was given to a partner and refused to it stands in the audit trail; this finds it there.
ALTER TABLE audit ADD COLUMN partner TEXT
    GENERATED ALWAYS AS (json_extract(record, '$.partner')) VIRTUAL;
CREATE INDEX audit_partner ON audit (partner, at) WHERE partner IS NOT NULL;

-- How much a grant was for: all packs of its manifest. 0: it was given before this was noted.
ALTER TABLE grants ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;

-- How a partner answered our searches, one row for each day (UTC, days since 1970) and answer: the
-- audit trail has one record for a search, and not one for each facility that it asked. `code` is
-- empty if the partner answered, else the code of its refusal or of what went wrong.
CREATE TABLE asked (
    partner BLOB NOT NULL,
    day INTEGER NOT NULL,
    code TEXT NOT NULL,
    times INTEGER NOT NULL,
    PRIMARY KEY (partner, day, code)
) WITHOUT ROWID;
