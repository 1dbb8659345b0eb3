-- What each origin signed last for us: that its journal may reach us through others.
CREATE TABLE memberships (
    origin BLOB PRIMARY KEY,
    payload BLOB NOT NULL,
    signature BLOB NOT NULL
) WITHOUT ROWID;
