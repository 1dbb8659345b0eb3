-- Notices to partners. The content stands here, inside the encrypted index; what travels is sealed
-- and signed anew at each attempt, under the keys that the partner then has.
CREATE TABLE outbox (
    notice_id BLOB PRIMARY KEY,
    partner BLOB NOT NULL,
    content BLOB NOT NULL,           -- protocol.notice.NoticeContent
    sent_at INTEGER NOT NULL,        -- when it was written here
    sent_by TEXT NOT NULL,
    delivered_at INTEGER,            -- when the partner's node had it on its disk
    acknowledged_at INTEGER,         -- when a person there had seen it, by their clock
    acknowledged_by TEXT NOT NULL DEFAULT '', -- their facility's pseudonym for that person
    payload BLOB,                    -- their signed acknowledgement
    signature BLOB
) WITHOUT ROWID;
CREATE INDEX outbox_undelivered ON outbox (partner) WHERE delivered_at IS NULL;

-- Notices from partners.
CREATE TABLE inbox (
    notice_id BLOB NOT NULL,
    partner BLOB NOT NULL,
    content BLOB NOT NULL,
    sent_at INTEGER NOT NULL,        -- by the partner's clock
    received_at INTEGER NOT NULL,
    acknowledged_at INTEGER,
    acknowledged_by TEXT NOT NULL DEFAULT '',
    acknowledged_as TEXT NOT NULL DEFAULT '', -- the pseudonym under which the sender is told
    acknowledgement_delivered_at INTEGER,
    told_at INTEGER,                 -- when the webhook had answered
    PRIMARY KEY (partner, notice_id)
) WITHOUT ROWID;
CREATE INDEX inbox_untold ON inbox (received_at) WHERE told_at IS NULL;
CREATE INDEX inbox_owed ON inbox (partner)
    WHERE acknowledged_at IS NOT NULL AND acknowledgement_delivered_at IS NULL;
