"""What is published, brought in step with a journal whose end came back from the partners.

The index is as old as the backup it came from; the journal is not.  What the journal has ended is
forgotten.  What it has and the index does not know is withdrawn; what the index would publish is
published again afterwards.  Of patients whom the lost end withdrew and the index would publish,
nothing is published until a person has looked: the lost end may have been their revocation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from peer import audit
from peer.actors import NODE
from peer.audit import AuditEvent
from peer.index import deferrals, patients, reconciliation
from peer.index.database import Tx
from peer.index.deferrals import Hold
from peer.index.reconciliation import Ended
from peer.partners import Partner
from peer.publish.difference import mend
from peer.publish.wanted import wanted
from protocol.identifiers import PatientIdentifier, PeerId
from protocol.journal import NewEntry, Withdraw

WITHDRAWN_SINCE: Final = (
    "Withdrawn from partners after the backup from which this node was restored; the consent on "
    "record here may have been revoked since. Check it, then release the patient or record a new "
    "consent."
)


def rebuild(
    tx: Tx, me: PeerId, search_master: bytes, partners: Sequence[Partner], now: int
) -> tuple[NewEntry, ...]:
    """Make the tables agree with our journal, and return the entries that this takes."""
    ended, slot_chains, published = reconciliation.drop_ended(tx, me)
    held = _hold(tx, ended, partners, now)
    unknown = reconciliation.unknown(tx, me)
    fillers = mend(tx, search_master, slot_chains, published)
    detail = {"ended": len(ended), "unknown": len(unknown), "held": held}
    audit.append(tx, AuditEvent("recover", "success", NODE, detail=detail), now)
    return (*fillers, *map(Withdraw, unknown))


def _hold(tx: Tx, ended: Iterable[Ended], partners: Sequence[Partner], now: int) -> int:
    """Hold every patient of whom the index would publish what the journal has ended."""
    by_patient: dict[int, set[str]] = {}
    for each in ended:
        by_patient.setdefault(each.patient, set()).add(each.study_instance_uid)
    held = 0
    for patient, uids in by_patient.items():
        wish = wanted(tx, patient, partners, now)
        row = patients.get(tx, patient)
        if row is None or not any(uids & found.studies.keys() for found in wish.values()):
            continue
        who = PatientIdentifier(row.issuer, row.patient_id)
        deferrals.hold(tx, Hold(who, WITHDRAWN_SINCE, now))
        event = AuditEvent(
            "hold", "success", NODE, patient=str(patient), detail={"reason": WITHDRAWN_SINCE}
        )
        audit.append(tx, event, now)
        held += 1
    return held
