"""Where the tables of what is published and our journal disagree, after the journal was regained.

The index came from a backup and the end of the journal from the partners, so that the one names
entries that the other has withdrawn, and lacks entries that the other has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peer.index.held import Held
from peer.index.migrate import Tx
from protocol.identifiers import EntryId, PeerId

_KNOWN: Final = """
SELECT entry_id FROM published_patients
UNION ALL SELECT entry_id FROM published_studies
UNION ALL SELECT entry_id FROM slot_filler_entries
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """A study that is published to nobody any more, by the journal's word."""

    patient: int
    study_instance_uid: str


def drop_ended(tx: Tx, me: PeerId) -> tuple[list[Ended], list[int], list[int]]:
    """Forget every publication whose entry is no longer live in our journal.

    Return the studies concerned, and the chains of match keys and the published patients in whose
    chains there may now be a gap.
    """
    journal = Held(tx, me).journal
    gone = "NOT EXISTS (SELECT 1 FROM journal_standings s WHERE s.journal = ?1"
    gone += " AND s.entry_id = {}.entry_id AND s.leaf IS NOT NULL)"
    patients = tx.execute(
        f"SELECT published, patient FROM published_patients p WHERE {gone.format('p')}",  # noqa: S608 - constants
        (journal,),
    ).fetchall()
    ended: list[Ended] = []
    slot_chains: set[int] = set()
    for row in patients:
        uids = tx.execute(
            "SELECT study_instance_uid FROM published_studies"
            " WHERE published = ? AND study_instance_uid IS NOT NULL",
            (row["published"],),
        )
        ended += [Ended(row["patient"], each["study_instance_uid"]) for each in uids]
        chains = tx.execute("SELECT chain FROM slots WHERE published = ?", (row["published"],))
        slot_chains.update(each["chain"] for each in chains)
        tx.execute("DELETE FROM published_patients WHERE published = ?", (row["published"],))
    studies = tx.execute(
        "SELECT x.entry_id, x.published, x.study_instance_uid, p.patient"  # noqa: S608 - constants
        " FROM published_studies x JOIN published_patients p ON p.published = x.published"
        f" WHERE {gone.format('x')}",
        (journal,),
    ).fetchall()
    for row in studies:
        if row["study_instance_uid"] is not None:
            ended.append(Ended(row["patient"], row["study_instance_uid"]))
        tx.execute("DELETE FROM published_studies WHERE entry_id = ?", (row["entry_id"],))
    tx.execute(
        f"DELETE FROM slot_filler_entries AS f WHERE {gone.format('f')}",  # noqa: S608 - constants
        (journal,),
    )
    return ended, sorted(slot_chains), sorted({row["published"] for row in studies})


def unknown(tx: Tx, me: PeerId) -> list[EntryId]:
    """Return the live entries of our journal of which the tables know nothing, oldest first."""
    rows = tx.execute(
        "SELECT entry_id FROM journal_standings WHERE journal = ? AND leaf IS NOT NULL"  # noqa: S608 - a constant
        f" AND entry_id NOT IN ({_KNOWN}) ORDER BY seq",
        (Held(tx, me).journal,),
    ).fetchall()
    return [EntryId(row["entry_id"]) for row in rows]
