-- The revision of our own key record that a partner is known to hold: from its hello, or from its
-- answer when it was told.
ALTER TABLE partners ADD COLUMN record_held INTEGER NOT NULL DEFAULT 0;
