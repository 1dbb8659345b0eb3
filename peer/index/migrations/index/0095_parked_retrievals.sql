-- A retrieval that did not come stays on the list of those until somebody takes it off (Unix
-- seconds) or tries it again; the row stays, for the receipt in it belongs to the ledger.
ALTER TABLE retrievals ADD COLUMN removed_at INTEGER;
