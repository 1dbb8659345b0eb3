"""Grants that we gave to partners, and their receipts: the SQL of `peer.retrieve.origin`.

Instants are Unix seconds, sizes bytes of ciphertext, identities 32 bytes, ids 16 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from sqlite3 import Row

from peer.index.migrate import Tx
from protocol.identifiers import PeerId
from protocol.statements import Statement


@dataclass(frozen=True, slots=True)
class GrantRow:
    """Leave that we gave a partner for one manifest version of one study, of so many bytes."""

    grant_id: bytes
    partner: PeerId
    nonce: bytes
    study_instance_uid: str
    retrieve_handle: bytes
    manifest_version: int
    manifest_root: bytes
    instances: int
    person: str
    role: str
    purpose: str
    issued_at: int
    expires_at: int
    revoked_at: int | None = None
    receipt: Statement | None = None
    bytes: int = 0


def add_grant(tx: Tx, grant: GrantRow) -> None:
    """Put a grant on record; Conflict if the partner's nonce was answered before."""
    tx.execute(
        "INSERT INTO grants (grant_id, partner, nonce, study_instance_uid, retrieve_handle,"
        " manifest_version, manifest_root, instances, person, role, purpose, issued_at, expires_at,"
        " bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            grant.grant_id,
            grant.partner,
            grant.nonce,
            grant.study_instance_uid,
            grant.retrieve_handle,
            grant.manifest_version,
            grant.manifest_root,
            grant.instances,
            grant.person,
            grant.role,
            grant.purpose,
            grant.issued_at,
            grant.expires_at,
            grant.bytes,
        ),
    )


def grant(tx: Tx, grant_id: bytes) -> GrantRow | None:
    """Return the grant of this id, or None."""
    row = tx.execute("SELECT * FROM grants WHERE grant_id = ?", (grant_id,)).fetchone()
    return None if row is None else _grant(row)


def was_answered(tx: Tx, partner: PeerId, nonce: bytes) -> bool:
    """Return whether a request of this partner with this nonce has had a grant."""
    query = "SELECT 1 FROM grants WHERE partner = ? AND nonce = ?"
    return tx.execute(query, (partner, nonce)).fetchone() is not None


def grants_of(tx: Tx, study_instance_uid: str) -> tuple[GrantRow, ...]:
    """Return every grant ever given for a study, oldest first."""
    query = "SELECT * FROM grants WHERE study_instance_uid = ? ORDER BY issued_at, grant_id"
    return tuple(_grant(row) for row in tx.execute(query, (study_instance_uid,)))


def revoke_grant(tx: Tx, grant_id: bytes, now: int) -> bool:
    """Note that a grant was ended by a decision; return whether this is the first note of it."""
    query = "UPDATE grants SET revoked_at = ? WHERE grant_id = ? AND revoked_at IS NULL"
    return tx.execute(query, (now, grant_id)).rowcount == 1


def put_receipt(tx: Tx, grant_id: bytes, receipt: Statement, now: int) -> None:
    """Put a partner's receipt beside its grant, in place of an earlier one."""
    tx.execute(
        "UPDATE grants SET receipt_payload = ?, receipt_signature = ?, receipt_at = ?"
        " WHERE grant_id = ?",
        (receipt.payload, receipt.signature, now, grant_id),
    )


def _grant(row: Row) -> GrantRow:
    return GrantRow(
        grant_id=row["grant_id"],
        partner=PeerId(row["partner"]),
        nonce=row["nonce"],
        study_instance_uid=row["study_instance_uid"],
        retrieve_handle=row["retrieve_handle"],
        manifest_version=row["manifest_version"],
        manifest_root=row["manifest_root"],
        instances=row["instances"],
        person=row["person"],
        role=row["role"],
        purpose=row["purpose"],
        issued_at=row["issued_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        receipt=statement_of(row["receipt_payload"], row["receipt_signature"]),
        bytes=row["bytes"],
    )


def statement_of(payload: bytes | None, signature: bytes | None) -> Statement | None:
    """Return a statement as it stands in two columns, or None."""
    return None if payload is None or signature is None else Statement(payload, signature)
