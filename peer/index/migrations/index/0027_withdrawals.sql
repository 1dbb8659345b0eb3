-- The withdrawals of our journal, and the batch in which each stands.
CREATE INDEX journal_withdrawals ON journal_entries (journal, seq) WHERE commitment IS NULL;
CREATE INDEX journal_batches_seq ON journal_batches (journal, last_seq);
