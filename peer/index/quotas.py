"""What each partner got of us today and we of it, as far as an agreement may bound it."""

from __future__ import annotations

from typing import Final

from peer.index.migrate import Tx
from peer.index.reciprocity import ANSWERED, Period
from protocol.quota import DAY_S, Use

SEARCHES: Final = "searches"
SEARCHES_REFUSED: Final = "searches-refused"
STUDIES_REFUSED: Final = "studies-refused"


def note(tx: Tx, partner: bytes, day: int, what: str) -> int:
    """Count how something a partner asked for was dealt with; return how often it was that day."""
    row = tx.execute(
        "INSERT INTO answered VALUES (?, ?, ?, 1)"
        " ON CONFLICT (partner, day, what) DO UPDATE SET times = times + 1 RETURNING times",
        (partner, day, what),
    ).fetchone()
    return int(row["times"])


def note_study(
    tx: Tx, partner: bytes, day: int, study_instance_uid: str, size: int, *, given: bool
) -> None:
    """Count a study that is granted, with the bytes of all its packs; once in a day."""
    tx.execute(
        "DELETE FROM granted WHERE partner = ? AND given = ? AND day < ?", (partner, given, day)
    )
    tx.execute(
        "INSERT INTO granted VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
        " SET bytes = max(bytes, excluded.bytes)",
        (partner, given, day, study_instance_uid, size),
    )


def has_study(tx: Tx, partner: bytes, day: int, study_instance_uid: str, *, given: bool) -> bool:
    """Return whether a study was granted that day already."""
    found = tx.execute(
        "SELECT 1 FROM granted"
        " WHERE partner = ? AND given = ? AND day = ? AND study_instance_uid = ?",
        (partner, given, day, study_instance_uid),
    ).fetchone()
    return found is not None


def given(tx: Tx, partner: bytes, day: int) -> Use:
    """Return what a partner got of us on a day."""
    searches = tx.execute(
        "SELECT times FROM answered WHERE partner = ? AND day = ? AND what = ?",
        (partner, day, SEARCHES),
    ).fetchone()
    return _use(tx, partner, day, 0 if searches is None else int(searches["times"]), given=True)


def received(tx: Tx, partner: bytes, day: int) -> Use:
    """Return what we got of a partner on a day."""
    searches = tx.execute(
        "SELECT times FROM asked WHERE partner = ? AND day = ? AND code = ?",
        (partner, day, ANSWERED),
    ).fetchone()
    return _use(tx, partner, day, 0 if searches is None else int(searches["times"]), given=False)


def refused(tx: Tx, partner: bytes, period: Period) -> int:
    """Return how often a partner's searches and requests for studies exceeded a day's figures."""
    row = tx.execute(
        "SELECT coalesce(sum(times), 0) AS times FROM answered"
        " WHERE partner = ? AND day >= ? AND day < ? AND what IN (?, ?)",
        (
            partner,
            period.since // DAY_S,
            period.until // DAY_S,
            SEARCHES_REFUSED,
            STUDIES_REFUSED,
        ),
    ).fetchone()
    return int(row["times"])


def _use(tx: Tx, partner: bytes, day: int, searches: int, *, given: bool) -> Use:
    row = tx.execute(
        "SELECT count(*) AS studies, coalesce(sum(bytes), 0) AS size FROM granted"
        " WHERE partner = ? AND given = ? AND day = ?",
        (partner, given, day),
    ).fetchone()
    return Use(searches, int(row["studies"]), int(row["size"]))
