"""Whose new studies someone here is told of, and which have come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from peer.index.migrate import Tx
from peer.index.opened import Opened, opened_of
from protocol.identifiers import PeerId


@dataclass(frozen=True, slots=True)
class Watched:
    """An opened patient whom somebody watches, and the studies that are known of them."""

    number: int
    opened: Opened
    known: frozenset[str]


@dataclass(frozen=True, slots=True)
class NewPriorRow:
    """A study that came after the search; `seen_at`: when the one it is listed for has seen it."""

    prior: int
    opened: Opened
    study_instance_uid: str
    found_at: int
    seen_at: int | None


def watch(tx: Tx, opened: int, watcher: str, until: int) -> None:
    """Let someone be told of a patient's new studies up to an instant."""
    tx.execute(
        "INSERT INTO watched_patients VALUES (?, ?, ?)"
        " ON CONFLICT (opened, watcher) DO UPDATE SET until = max(until, excluded.until)",
        (opened, watcher, until),
    )


def watched(tx: Tx, origin: PeerId, now: int, after: int, limit: int) -> Sequence[Watched]:
    """Return some watched patients of a partner in the order of their numbers, beyond `after`."""
    rows = tx.execute(
        "SELECT p.* FROM opened_patients p WHERE p.origin = ? AND p.opened > ? AND EXISTS"
        " (SELECT 1 FROM watched_patients w WHERE w.opened = p.opened AND w.until > ?)"
        " ORDER BY p.opened LIMIT ?",
        (origin, after, now, limit),
    ).fetchall()
    return [Watched(row["opened"], opened_of(row), _known(tx, row["opened"])) for row in rows]


def add(tx: Tx, opened: int, uids: Iterable[str], now: int) -> int:
    """Note new studies of a patient for all who watch; return how many were not known before.

    Nothing if the patient was forgotten meanwhile.
    """
    count = 0
    for uid in uids:
        row = tx.execute(
            "INSERT OR IGNORE INTO new_priors (opened, study_instance_uid, found_at)"
            " SELECT opened, ?, ? FROM opened_patients WHERE opened = ? RETURNING prior",
            (uid, now, opened),
        ).fetchone()
        if row is None:
            continue
        count += 1
        tx.execute("INSERT OR IGNORE INTO opened_studies VALUES (?, ?)", (opened, uid))
        tx.execute(
            "INSERT INTO new_priors_for (prior, watcher)"
            " SELECT ?, watcher FROM watched_patients WHERE opened = ? AND until > ?",
            (row["prior"], opened, now),
        )
    return count


def listed(tx: Tx, opened: int, uids: Iterable[str], watcher: str, now: int) -> None:
    """Note new studies that someone's search has just listed: they are news for the others."""
    others = tx.execute(
        "SELECT 1 FROM watched_patients WHERE opened = ? AND watcher != ? AND until > ?",
        (opened, watcher, now),
    ).fetchone()
    if others is None:
        return
    uids = list(uids)
    add(tx, opened, uids, now)
    tx.executemany(
        "UPDATE new_priors_for SET seen_at = ? WHERE watcher = ? AND seen_at IS NULL AND prior ="
        " (SELECT prior FROM new_priors WHERE opened = ? AND study_instance_uid = ?)",
        [(now, watcher, opened, uid) for uid in uids],
    )


def listed_for(tx: Tx, watcher: str, limit: int) -> list[NewPriorRow]:
    """Return what is news for someone: what they have not seen first, then the latest."""
    rows = tx.execute(
        "SELECT p.*, n.prior, n.study_instance_uid, n.found_at, f.seen_at FROM new_priors_for f"
        " JOIN new_priors n ON n.prior = f.prior JOIN opened_patients p ON p.opened = n.opened"
        " WHERE f.watcher = ? ORDER BY f.seen_at IS NOT NULL, n.prior DESC LIMIT ?",
        (watcher, limit),
    ).fetchall()
    return [_row(row) for row in rows]


def seen(tx: Tx, watcher: str, priors: Iterable[int], now: int) -> int:
    """Note what someone has seen; return how much of it was news."""
    cursor = tx.executemany(
        "UPDATE new_priors_for SET seen_at = ? WHERE watcher = ? AND prior = ? AND seen_at IS NULL",
        [(now, watcher, prior) for prior in priors],
    )
    return max(cursor.rowcount, 0)


def unposted(tx: Tx) -> list[tuple[int, PeerId]]:
    """Return what the webhook is yet to be told: the number of each, and its facility."""
    rows = tx.execute(
        "SELECT n.prior, p.origin FROM new_priors n JOIN opened_patients p ON p.opened = n.opened"
        " WHERE n.posted_at IS NULL ORDER BY n.prior"
    ).fetchall()
    return [(row["prior"], PeerId(row["origin"])) for row in rows]


def posted(tx: Tx, prior: int, now: int) -> None:
    """Note that the webhook was told."""
    tx.execute("UPDATE new_priors SET posted_at = ? WHERE prior = ?", (now, prior))


def forget_before(tx: Tx, now: int, kept_since: int) -> None:
    """Forget who watches no longer, and what came before an instant."""
    tx.execute("DELETE FROM watched_patients WHERE until <= ?", (now,))
    tx.execute("DELETE FROM new_priors WHERE found_at < ?", (kept_since,))


def forget_watcher(tx: Tx, watcher: str) -> None:
    """Forget all that someone watches and all that is news for them."""
    tx.execute("DELETE FROM watched_patients WHERE watcher = ?", (watcher,))
    tx.execute("DELETE FROM new_priors_for WHERE watcher = ?", (watcher,))


def _known(tx: Tx, opened: int) -> frozenset[str]:
    rows = tx.execute("SELECT study_instance_uid FROM opened_studies WHERE opened = ?", (opened,))
    return frozenset(row["study_instance_uid"] for row in rows)


def _row(row: Any) -> NewPriorRow:  # noqa: ANN401 - a row of the join above
    return NewPriorRow(
        row["prior"], opened_of(row), row["study_instance_uid"], row["found_at"], row["seen_at"]
    )
