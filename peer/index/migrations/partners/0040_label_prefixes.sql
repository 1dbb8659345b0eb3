-- Labels by their first five bytes: the whole of them stands in the bodies, where a search compares it.
-- Among a hundred million one look-up in ten thousand meets another label's entry.
CREATE TABLE label_prefixes (
    prefix BLOB NOT NULL,
    journal INTEGER NOT NULL REFERENCES journals ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    PRIMARY KEY (prefix, journal, seq)
) WITHOUT ROWID;
INSERT OR IGNORE INTO label_prefixes
    SELECT substr(label, 1, 5), journal, seq FROM journal_labels ORDER BY label, journal, seq;
DROP TABLE journal_labels;
ALTER TABLE label_prefixes RENAME TO journal_labels;

CREATE TABLE new_label_prefixes (
    prefix BLOB NOT NULL,
    journal INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (prefix, journal, seq)
) WITHOUT ROWID;
INSERT OR IGNORE INTO new_label_prefixes
    SELECT substr(label, 1, 5), journal, seq FROM journal_new_labels;
DROP TABLE journal_new_labels;
ALTER TABLE new_label_prefixes RENAME TO journal_new_labels;
