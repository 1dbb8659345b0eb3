"""The ledger of receipts: what was handed over, verified, and signed for, on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from peer.index import grants, transfers
from peer.index.database import Tx
from protocol.grant import ReceiptBody
from protocol.hashing import plain_hash
from protocol.identifiers import PeerId
from protocol.limits import STATEMENT_BYTES
from protocol.records import from_bytes
from protocol.statements import Statement


@dataclass(frozen=True, slots=True)
class Receipt:
    """One signed receipt as it stands in our ledger.

    `receipt_id` is BLAKE3 over what was signed, 32 B: the same in both facilities' ledgers.
    `given`: we signed it; otherwise the partner did.
    """

    receipt_id: bytes
    partner: PeerId
    given: bool
    study_instance_uid: str
    body: ReceiptBody

    def to_json(self, name: str) -> dict[str, object]:
        """Return it as the API shows it; `name` is the partner's."""
        return {
            "receipt_id": self.receipt_id.hex(),
            "direction": "given" if self.given else "received",
            "peer_id": self.partner.hex(),
            "name": name,
            "study_instance_uid": self.study_instance_uid,
            "instances": self.body.instances,
            "instances_verified": self.body.verified,
            "missing": list(self.body.missing),
            "sentence": self.body.sentence(),
            "at": self.body.issued_at,
        }


def receipts_of(tx: Tx, study_instance_uid: str) -> list[Receipt]:
    """Return the receipts for a study, given and received, newest first."""
    found = [*_given(tx, study_instance_uid), *_received(tx, study_instance_uid)]
    return sorted(found, key=lambda each: each.body.issued_at, reverse=True)


def _given(tx: Tx, uid: str) -> Iterator[Receipt]:
    for row in transfers.retrievals_of(tx, uid):
        if row.receipt is not None:
            yield _read(row.receipt, row.origin, uid, given=True)


def _received(tx: Tx, uid: str) -> Iterator[Receipt]:
    for row in grants.grants_of(tx, uid):
        if row.receipt is not None:
            yield _read(row.receipt, row.partner, uid, given=False)


def _read(statement: Statement, partner: PeerId, uid: str, *, given: bool) -> Receipt:
    body = from_bytes(ReceiptBody, statement.payload, STATEMENT_BYTES)
    return Receipt(plain_hash(statement.payload), partner, given, uid, body)
