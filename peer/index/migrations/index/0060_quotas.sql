-- How a partner's searches and requests for studies were dealt with, for each day (UTC, days since
-- 1970). `what`: 'searches' were answered; 'searches-refused' and 'studies-refused' are those for
-- which the day's figure in the agreement was used up.
CREATE TABLE answered (
    partner BLOB NOT NULL,
    day INTEGER NOT NULL,
    what TEXT NOT NULL,
    times INTEGER NOT NULL,
    PRIMARY KEY (partner, day, what)
) WITHOUT ROWID;

-- Each study that went between a partner and us on a day, once: `given` to it, or by it. `bytes`:
-- of all packs of the largest version. Days before the latest are forgotten.
CREATE TABLE granted (
    partner BLOB NOT NULL,
    given INTEGER NOT NULL,
    day INTEGER NOT NULL,
    study_instance_uid TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (partner, given, day, study_instance_uid)
) WITHOUT ROWID;
