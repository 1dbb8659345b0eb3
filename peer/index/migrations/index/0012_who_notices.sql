-- A partner is told who wrote a notice, and for which purpose one was read.
ALTER TABLE outbox ADD COLUMN person TEXT NOT NULL DEFAULT ''; -- the pseudonym of who wrote it
ALTER TABLE inbox ADD COLUMN acknowledged_for TEXT NOT NULL DEFAULT 'TREAT';
