-- Consent may end while a notice waits: the decision is made again before each delivery, for the
-- purpose with which the notice was written. `refusal`: why it is not delivered any more.
ALTER TABLE outbox ADD COLUMN purpose TEXT NOT NULL DEFAULT 'TREAT';
ALTER TABLE outbox ADD COLUMN refusal TEXT NOT NULL DEFAULT '';
