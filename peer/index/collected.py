"""Collections from PACS: what was asked for, what was listed, what of it is here."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from peer.index.migrate import Tx


@dataclass(frozen=True, slots=True)
class CollectionRow:
    """A collection with the counts over its studies."""

    collection: int
    title: str
    keys: dict[str, str]
    is_scheduled: bool
    state: str
    """listing, fetching, complete, incomplete or failed."""
    attempts: int
    reason: str
    began_at: int
    ended_at: int | None
    studies: int
    complete: int
    waiting: int
    listed: int
    missing: int


@dataclass(frozen=True, slots=True)
class CollectedStudy:
    """A study that a PACS listed."""

    study_instance_uid: str
    state: str
    """waiting, complete or incomplete."""
    attempts: int
    listed: int
    missing: tuple[str, ...]
    reason: str


_COLLECTION = """
SELECT c.*,
    (SELECT count(*) FROM collected_studies s WHERE s.collection = c.collection) AS studies,
    (SELECT count(*) FROM collected_studies s
        WHERE s.collection = c.collection AND s.state = 'complete') AS complete,
    (SELECT count(*) FROM collected_studies s
        WHERE s.collection = c.collection AND s.state = 'waiting') AS waiting,
    (SELECT coalesce(sum(s.listed), 0) FROM collected_studies s
        WHERE s.collection = c.collection) AS listed,
    (SELECT coalesce(sum(json_array_length(s.missing)), 0) FROM collected_studies s
        WHERE s.collection = c.collection) AS missing
FROM collections c
"""


def begin(tx: Tx, title: str, keys: Mapping[str, str], now: int, *, is_scheduled: bool) -> int:
    """Record that something is to be collected; return its number."""
    cursor = tx.execute(
        "INSERT INTO collections (title, keys, is_scheduled, state, began_at)"
        " VALUES (?, ?, ?, 'listing', ?)",
        (title, json.dumps(dict(keys)), is_scheduled, now),
    )
    return int(cursor.lastrowid or 0)


def get(tx: Tx, collection: int) -> CollectionRow | None:
    """Return a collection, or None."""
    row = tx.execute(_COLLECTION + " WHERE c.collection = ?", (collection,)).fetchone()
    return None if row is None else _row(row)


def newest(tx: Tx, most: int) -> list[CollectionRow]:
    """Return the newest collections."""
    rows = tx.execute(_COLLECTION + " ORDER BY c.collection DESC LIMIT ?", (most,)).fetchall()
    return [_row(row) for row in rows]


def unfinished_titles(tx: Tx) -> list[str]:
    """Return the PACS from which a collection goes on."""
    rows = tx.execute("SELECT DISTINCT title FROM collections WHERE ended_at IS NULL")
    return [row["title"] for row in rows]


def unfinished_of(tx: Tx, title: str) -> int | None:
    """Return the oldest collection from a PACS that goes on, or None."""
    row = tx.execute(
        "SELECT min(collection) AS oldest FROM collections WHERE ended_at IS NULL AND title = ?",
        (title,),
    ).fetchone()
    return None if row["oldest"] is None else int(row["oldest"])


def last_scheduled(tx: Tx, title: str) -> tuple[int | None, int | None]:
    """Return when the last scheduled collection from a PACS began, and since when studies may lack.

    That is the begin of the last complete one, or of the very first if none was complete.
    """
    row = tx.execute(
        "SELECT max(began_at) AS newest, coalesce("
        "max(CASE WHEN state = 'complete' THEN began_at END), min(began_at)"
        ") AS since FROM collections WHERE title = ? AND is_scheduled",
        (title,),
    ).fetchone()
    return row["newest"], row["since"]


def list_studies(tx: Tx, collection: int, uids: Iterable[str]) -> None:
    """Record what a PACS listed: from now on it is fetched."""
    tx.executemany(
        "INSERT INTO collected_studies (collection, study_instance_uid, state)"
        " VALUES (?, ?, 'waiting') ON CONFLICT DO NOTHING",
        [(collection, uid) for uid in uids],
    )
    tx.execute(
        "UPDATE collections SET state = 'fetching', attempts = 0, reason = '' WHERE collection = ?",
        (collection,),
    )


def note(tx: Tx, collection: int, reason: str) -> None:
    """Record one more attempt to list that came to nothing."""
    tx.execute(
        "UPDATE collections SET attempts = attempts + 1, reason = ? WHERE collection = ?",
        (reason, collection),
    )


def end(tx: Tx, collection: int, state: str, now: int) -> None:
    """Record how a collection ended."""
    tx.execute(
        "UPDATE collections SET state = ?, ended_at = ? WHERE collection = ?",
        (state, now, collection),
    )


def next_waiting(tx: Tx, collection: int) -> CollectedStudy | None:
    """Return the study to fetch next: the one that was tried least often."""
    row = tx.execute(
        "SELECT * FROM collected_studies WHERE collection = ? AND state = 'waiting'"
        " ORDER BY attempts, study_instance_uid LIMIT 1",
        (collection,),
    ).fetchone()
    return None if row is None else _study(row)


def put(tx: Tx, collection: int, study: CollectedStudy) -> None:
    """Record how a study stands."""
    tx.execute(
        "UPDATE collected_studies SET state = ?, attempts = ?, listed = ?, missing = ?, reason = ?"
        " WHERE collection = ? AND study_instance_uid = ?",
        (
            study.state,
            study.attempts,
            study.listed,
            json.dumps(study.missing),
            study.reason,
            collection,
            study.study_instance_uid,
        ),
    )


def not_complete(tx: Tx, collection: int, most: int) -> list[CollectedStudy]:
    """Return the studies of which something is missing, or not looked for yet."""
    rows = tx.execute(
        "SELECT * FROM collected_studies WHERE collection = ? AND state <> 'complete'"
        " ORDER BY study_instance_uid LIMIT ?",
        (collection, most),
    )
    return [_study(row) for row in rows.fetchall()]


def lacking(tx: Tx, sop_instance_uids: Collection[str]) -> tuple[str, ...]:
    """Return which of these instances are not held."""
    rows = tx.execute(
        "SELECT asked.value FROM json_each(?) asked WHERE NOT EXISTS"
        " (SELECT 1 FROM instances i WHERE i.sop_instance_uid = asked.value)",
        (json.dumps(sorted(sop_instance_uids)),),
    )
    return tuple(row["value"] for row in rows)


def _row(row: sqlite3.Row) -> CollectionRow:
    values = {name: row[name] for name in CollectionRow.__dataclass_fields__}
    return CollectionRow(
        **values | {"keys": json.loads(row["keys"]), "is_scheduled": bool(row["is_scheduled"])}
    )


def _study(row: sqlite3.Row) -> CollectedStudy:
    values = {name: row[name] for name in CollectedStudy.__dataclass_fields__}
    return CollectedStudy(**values | {"missing": tuple(json.loads(row["missing"]))})
