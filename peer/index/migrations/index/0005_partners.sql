-- Invitations given away. `offer` is the record protocol.pairing.Offer; once the one proof of an
-- invitation is completed its secret in there is zero.
CREATE TABLE invitations (
    invitation_id BLOB PRIMARY KEY,
    offer BLOB NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;

-- Facilities with which a pairing was begun, by their root key.
CREATE TABLE partners (
    peer_id BLOB PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('pending', 'active', 'removed')),
    record BLOB NOT NULL,           -- the newest SignedKeyRecord
    pairing_id BLOB NOT NULL UNIQUE,
    pairing BLOB NOT NULL,          -- protocol.pairing.Pairing
    reveal BLOB,                    -- Reveal that the inviter has not answered yet
    delivered INTEGER NOT NULL,     -- whether our signature has arrived there
    pairing_url TEXT NOT NULL,      -- where the joiner found the inviter; '' at the inviter
    since INTEGER NOT NULL,         -- of the state
    reason TEXT NOT NULL            -- of a removal
) WITHOUT ROWID;

-- The deny set: pairings that were ended. It only grows; a key comes back by a new pairing alone.
CREATE TABLE removals (
    pairing_id BLOB PRIMARY KEY,
    peer_id BLOB NOT NULL,
    removed_at INTEGER NOT NULL,
    by_them INTEGER NOT NULL,
    reason TEXT NOT NULL
) WITHOUT ROWID;
CREATE TRIGGER removals_are_never_altered BEFORE UPDATE ON removals
BEGIN
    SELECT RAISE(ABORT, 'removals are never altered');
END;
CREATE TRIGGER removals_are_never_deleted BEFORE DELETE ON removals
BEGIN
    SELECT RAISE(ABORT, 'removals are never deleted');
END;
