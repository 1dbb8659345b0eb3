-- When each person or program here searched other facilities, for as long as an hour's bound looks
-- back. Unix seconds.
CREATE TABLE searches_made (
    who TEXT NOT NULL,
    at INTEGER NOT NULL
);
CREATE INDEX searches_made_who ON searches_made (who, at);
