-- Key epochs that have ended for an audience while something is still published under them. Partners
-- who were there before are answered under these too, until their last entry is withdrawn.
CREATE TABLE past_key_epochs (
    audience BLOB NOT NULL,
    key_epoch INTEGER NOT NULL,
    PRIMARY KEY (audience, key_epoch)
) WITHOUT ROWID;
INSERT INTO past_key_epochs
    SELECT c.audience, c.key_epoch FROM slot_chains c
    WHERE c.key_epoch <> coalesce((SELECT k.key_epoch FROM key_epochs k WHERE k.audience = c.audience), 1)
    UNION SELECT f.audience, f.key_epoch FROM slot_filler_entries f
    WHERE f.key_epoch <> coalesce((SELECT k.key_epoch FROM key_epochs k WHERE k.audience = f.audience), 1);

-- The first key epochs, of everyone's audience and of its own, under which a partner is answered: those
-- of its coming. Of who is here already it is not known; the present ones open nothing too much.
ALTER TABLE key_holders ADD COLUMN everyone_from INTEGER NOT NULL DEFAULT 1;
ALTER TABLE key_holders ADD COLUMN own_from INTEGER NOT NULL DEFAULT 1;
UPDATE key_holders SET
    everyone_from = coalesce((SELECT key_epoch FROM key_epochs WHERE audience = x''), 1),
    own_from = coalesce((SELECT k.key_epoch FROM key_epochs k WHERE k.audience = key_holders.peer_id), 1);
