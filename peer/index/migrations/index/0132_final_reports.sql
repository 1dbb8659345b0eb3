-- Final reports that a RIS has sent: whose, of which study, and which sentences they have.  Not what
-- they say beyond that.  Instants: Unix seconds.
CREATE TABLE final_reports (
    report INTEGER PRIMARY KEY,
    sender TEXT NOT NULL,            -- its name in the settings
    number TEXT NOT NULL,            -- the filler's or the placer's
    status TEXT NOT NULL,            -- OBR-25: F final, C corrected
    identifiers TEXT NOT NULL,       -- JSON array of [issuer, value]: of the patient
    says_available INTEGER NOT NULL, -- whether it has the sentence DATA AVAILABILITY
    says_searched INTEGER NOT NULL,  -- whether it has the sentence DATA SEARCH
    received_at INTEGER NOT NULL,
    looked_at INTEGER NOT NULL       -- when it was last seen to be of a study here, or received
);
CREATE UNIQUE INDEX final_reports_once ON final_reports (sender, number);
CREATE INDEX final_reports_looked_at ON final_reports (looked_at);

-- What names its study: a Study Instance UID, or an accession number.
CREATE TABLE final_report_studies (
    kind TEXT NOT NULL,              -- study, accession
    value TEXT NOT NULL,
    report INTEGER NOT NULL REFERENCES final_reports ON DELETE CASCADE,
    PRIMARY KEY (kind, value, report)
) WITHOUT ROWID;
CREATE INDEX final_report_studies_report ON final_report_studies (report);
