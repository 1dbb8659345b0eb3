-- Partners that are given our search keys, or were; a removal deletes the row. `told_*`: the key epochs whose keys
-- the partner has confirmed to hold; NULL: it holds none that we know of.
CREATE TABLE delegations (
    peer_id BLOB PRIMARY KEY,
    delegated INTEGER NOT NULL,
    since INTEGER NOT NULL,
    told_everyone INTEGER,
    told_own INTEGER
) WITHOUT ROWID;

-- Partners' search keys that we were given: protocol.delegation.DelegationBody.
CREATE TABLE delegated_keys (
    origin BLOB PRIMARY KEY,
    body BLOB NOT NULL
) WITHOUT ROWID;

-- Who holds keys that are to be replaced although the holder stays a partner.
ALTER TABLE key_holders ADD COLUMN replaced INTEGER NOT NULL DEFAULT 0;
