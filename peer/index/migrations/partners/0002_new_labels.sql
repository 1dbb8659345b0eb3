-- The newest labels, apart from `journal_labels` until there are enough of them to be merged into
-- it in their order. Without a reference to `journals`, so that SQLite can empty it page by page.
CREATE TABLE journal_new_labels (
    label BLOB NOT NULL,
    journal INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (label, journal, seq)
) WITHOUT ROWID;
