-- What people here have said of two records, or of a record and a description that was asked for.
-- The newest row of a pair stands.
CREATE TABLE person_links (
    link INTEGER PRIMARY KEY,
    one BLOB NOT NULL,               -- refs, protocol.person_links; one < other
    other BLOB NOT NULL,
    made_by TEXT NOT NULL,
    payload BLOB NOT NULL,           -- protocol.person_links.LinkBody
    signature BLOB NOT NULL          -- by our node key
);
CREATE INDEX person_links_one ON person_links (one, other);
CREATE INDEX person_links_other ON person_links (other);
