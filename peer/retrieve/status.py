"""How far a retrieval is, as pages, commands and the API show it."""

from __future__ import annotations

from dataclasses import dataclass

from peer.index.transfers import RetrievalRow, State
from protocol.grant import DESTROYED, ReceiptBody
from protocol.limits import STATEMENT_BYTES
from protocol.records import from_bytes


@dataclass(frozen=True, slots=True)
class Retrieval:
    """A retrieval and the name of the facility it comes from."""

    row: RetrievalRow
    name: str
    viewable: bool = False
    """Whether the study can be looked at although not all of it is here."""
    slowed: str = ""
    """Which limit slows it now, a sentence."""

    @property
    def retrieval_id(self) -> bytes:
        """16 bytes."""
        return self.row.retrieval_id

    @property
    def state(self) -> str:
        """One of `peer.index.transfers.State`."""
        return self.row.state

    @property
    def receipt(self) -> ReceiptBody | None:
        """What we signed at the end, or None before."""
        if self.row.receipt is None:
            return None
        return from_bytes(ReceiptBody, self.row.receipt.payload, STATEMENT_BYTES)

    @property
    def sentence(self) -> str:
        """Where it stands, for a person; no patient attribute is in it."""
        match self.row.state:
            case State.ASKING:
                return f"Asking {self.name} for the study."
            case State.FETCHING:
                said = f"{self.row.bytes_verified} of {self.row.bytes} bytes verified"
                return f"{said}. {self.slowed}" if self.slowed else said
            case State.COMPLETE:
                return f"{self.row.verified}/{self.row.instances} instances verified"
            case State.REVOKED:
                destroyed = self.receipt is not None and self.receipt.outcome == DESTROYED
                kept = (
                    "Nothing of the study was kept."
                    if destroyed
                    else "The study is held as it was before."
                )
                return f"{self.name} has ended this retrieval: {self.row.reason} {kept}"
            case _:
                return self.row.reason

    def to_json(self) -> dict[str, object]:
        """Return it as the API shows it."""
        row, receipt = self.row, self.receipt
        return {
            "retrieval_id": row.retrieval_id.hex(),
            "peer_id": row.origin.hex(),
            "name": self.name,
            "study_instance_uid": row.study_instance_uid,
            "state": row.state,
            "sentence": self.sentence,
            "instances": row.instances,
            "instances_verified": row.verified,
            "viewable": self.viewable,
            "slowed": self.slowed,
            "manifest_version": row.manifest_version,
            "bytes": self.row.bytes_verified,
            "bytes_total": row.bytes,
            "code": row.code,
            "reason": row.reason,
            "remedy": row.remedy,
            "started_at": row.started_at,
            "changed_at": row.changed_at,
            "receipt": None
            if receipt is None
            else {
                "grant_id": receipt.grant_id.hex(),
                "outcome": receipt.outcome,
                "sentence": receipt.sentence(),
                "missing": list(receipt.missing),
                "signed_at": receipt.issued_at,
                "delivered_at": row.receipt_delivered_at,
            },
        }
