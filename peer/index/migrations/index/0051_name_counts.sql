-- How many patients bear a name, family or given, in the spelling of match keys; '' counts them all.
CREATE TABLE name_counts (
    name TEXT PRIMARY KEY,
    patients INTEGER NOT NULL
) WITHOUT ROWID;
