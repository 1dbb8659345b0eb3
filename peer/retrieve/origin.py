"""The origin's side: grants, ranges of ciphertext, receipts."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from peer import audit
from peer.access import Access, Permit
from peer.actors import partner_node, someone_at
from peer.alerts import glass_broken_by
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.config import Settings
from peer.errors import Damaged
from peer.index import Database, Tx, grants, packs
from peer.index.grants import GrantRow
from peer.index.packs import ManifestRow
from peer.keys import NodeKeys
from peer.partners import Partner
from peer.reciprocity import Reciprocity
from peer.retrieve.chunks import ends_of
from peer.store import Store, unwrap_pack_key, unwrap_study_key
from protocol.errors import Refusal, Replayed
from protocol.grant import (
    GRANT_DOMAIN,
    GrantBody,
    GrantRequestBody,
    SignedGrant,
    match_receipt,
    open_receipt,
    open_request,
    seal_keys,
)
from protocol.hashing import plain_hash
from protocol.identifiers import PeerId
from protocol.limits import GRANT_MOST_S, MANIFEST_INLINE_BYTES, PIECE_BYTES, PROTOCOL_VERSION
from protocol.manifest import DOMAIN as MANIFEST_DOMAIN
from protocol.manifest import Manifest, SignedManifest, read_manifest
from protocol.messages import GrantAnswer, GrantRequest, ReceiptMessage
from protocol.reciprocity import breaks_glass
from protocol.records import to_bytes
from protocol.signing import sign
from protocol.statements import sign_statement

SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class _Granted:
    """What one grant lets its partner read: how far each pack goes, and the manifest itself."""

    row: GrantRow
    manifest: bytes
    ends: dict[bytes, int]


class Origin:
    """Answers partners who want a study of ours.  Its methods are handlers of the link."""

    def __init__(
        self,
        db: Database,
        store: Store,
        keys: NodeKeys,
        access: Access,
        reciprocity: Reciprocity,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._db = db
        self._store = store
        self._keys = keys
        self._access = access
        self._reciprocity = reciprocity
        self._clock = clock
        self._kept_grants = settings.transfer.kept_grants
        self._grant_s = min(settings.transfer.grant_s, GRANT_MOST_S)
        self._granted: OrderedDict[bytes, _Granted] = OrderedDict()

    # -- grants -----------------------------------------------------------------------------
    async def grant(self, message: GrantRequest, partner: Partner) -> GrantAnswer:
        """Answer a request for one study with a grant; raise Refusal with reason and remedy."""
        now = self._clock.now()
        request = open_request(
            message.statement,
            key=partner.record.node_public,
            author=partner.peer_id,
            me=self._keys.peer_id,
            now=now,
        )
        if await self._db.read(lambda tx: grants.was_answered(tx, partner.peer_id, request.nonce)):
            raise Replayed("this request for a study was answered before; sign a new one")
        await self._admit(request, partner, now)
        permit = await self._access.permit_partner(
            partner,
            request.retrieve_handle,
            purpose=request.purpose,
            role=request.role,
            person=request.person,
        )
        return await self._give(permit, request, partner, now)

    async def _admit(self, request: GrantRequestBody, partner: Partner, now: int) -> None:
        """Return if the partner has exchanged journals, or breaks the glass; raise Refusal."""
        refusal = self._reciprocity.objection(partner.peer_id, request.purpose)
        actor = someone_at(partner.peer_id, request.person, request.role, request.purpose)
        if refusal is not None:
            event = AuditEvent(
                action="grant-refused",
                outcome="refused",
                actor=actor,
                partner=partner.peer_id,
                detail={"code": refusal.code, "reason": refusal.reason},
            )
            await self._db.write(lambda tx: audit.append(tx, event, now))
            raise refusal
        if breaks_glass(request.purpose):
            await self._db.write(
                lambda tx: glass_broken_by(tx, actor, partner.peer_id, "retrieve", now)
            )

    async def _give(
        self, permit: Permit, request: GrantRequestBody, partner: Partner, now: int
    ) -> GrantAnswer:
        uid = permit.study_instance_uid
        row = await self._db.read(lambda tx: packs.get_manifest(tx, uid))
        if row is None:
            refusal = _not_settled()
            await self._db.write(partial(_record_refusal, permit, refusal, now))
            raise refusal
        # A long manifest takes a while to read: not in the loop, nor while others wait to write.
        manifest = await asyncio.to_thread(read_manifest, row.signed.manifest)
        signed = await asyncio.to_thread(self._sign_anew, row.signed)
        box = seal_keys(
            partner.record.seal_public,
            secrets.token_bytes(SECRET_BYTES),
            await self._db.read(lambda tx: self._pack_keys(tx, manifest)),
            grant_id=permit.permit_id,
            manifest_root=row.root,
        )
        body = GrantBody(
            version=PROTOCOL_VERSION,
            author=self._keys.peer_id,
            addressee=partner.peer_id,
            issued_at=now,
            expires_at=now + self._grant_s,
            grant_id=permit.permit_id,
            nonce=request.nonce,
            retrieve_handle=request.retrieve_handle,
            manifest_version=row.version,
            manifest_root=row.root,
            manifest_bytes=len(row.signed.manifest),
            box_hash=plain_hash(box),
        )
        size = sum((await asyncio.to_thread(ends_of, manifest)).values())
        granted = replace(_row(permit, request, body, len(manifest.instances)), bytes=size)
        # Consent may have ended since the permit was made: what is granted is permitted when it is.
        objection = await self._db.write(lambda tx: self._add(tx, granted, permit, partner))
        if objection is not None:
            raise objection
        statement = sign_statement(self._keys.node_seed, GRANT_DOMAIN, body)
        return GrantAnswer(to_bytes(SignedGrant(statement, box)), to_bytes(_inline(signed)))

    def _sign_anew(self, signed: SignedManifest) -> SignedManifest:
        """Return a manifest signed by the node key of today; it may be older than that."""
        return SignedManifest(
            signed.manifest, sign(self._keys.node_seed, MANIFEST_DOMAIN, signed.manifest)
        )

    def _add(self, tx: Tx, granted: GrantRow, permit: Permit, partner: Partner) -> Refusal | None:
        """Make a grant usable and put it on record, unless it would be refused by now."""
        refusal = self._access.objection(
            tx, granted.study_instance_uid, partner, purpose=granted.purpose, role=granted.role
        )
        if refusal is not None:
            _record_refusal(permit, refusal, self._clock.now(), tx)
            return refusal
        over = self._reciprocity.quotas.give_study(tx, partner, permit, granted.bytes)
        if over is None:
            grants.add_grant(tx, granted)
            self._access.record_grant(tx, permit)
        return over

    def _pack_keys(self, tx: Tx, manifest: Manifest) -> dict[bytes, bytes]:
        uid = manifest.study_instance_uid
        wrapped = packs.wrapped_study_key(tx, uid)
        rows = {row.pack_id: row for row in packs.of_study(tx, uid)}
        if wrapped is None or not rows.keys() >= set(manifest.packs):
            raise Damaged(
                "A manifest names packs that are not on record. Let the study settle again, or "
                "restore the index from a backup."
            )
        study_key = unwrap_study_key(self._keys.store_key, wrapped, uid)
        return {
            pack_id: unwrap_pack_key(study_key, rows[pack_id].wrapped_key, pack_id)
            for pack_id in manifest.packs
        }

    # -- ranges -----------------------------------------------------------------------------
    async def read_range(
        self, partner: Partner, grant_id: bytes, pack_id: bytes, start: int, end: int
    ) -> bytes:
        """Return the bytes from `start` to `end` (not included) of a pack, as they are stored.

        At most PIECE_BYTES.  The grant's own id in the place of a pack's stands for the manifest.
        Raises Refusal: "not-granted", "grant-expired", "revoked" or "no-such-range".
        """
        granted = await self._usable(partner, grant_id)
        whole = pack_id == grant_id
        size = len(granted.manifest) if whole else granted.ends.get(pack_id)
        if size is None:
            raise _not_granted()
        if not 0 <= start < end <= min(size, start + PIECE_BYTES):
            raise Refusal(
                "no-such-range",
                "This range lies outside what was granted.",
                "Ask for bytes that the manifest names, in pieces.",
            )
        if whole:
            return granted.manifest[start:end]
        data = await asyncio.to_thread(self._store.read_range, pack_id, start, end - start)
        if len(data) != end - start:
            raise Damaged("A pack is shorter than its manifest. Restore the store from a backup.")
        return data

    async def _usable(self, partner: Partner, grant_id: bytes) -> _Granted:
        granted = self._granted.get(grant_id) or await self._load(grant_id)
        if granted is None or granted.row.partner != partner.peer_id:
            await self._record_misuse(partner, granted)
            raise _not_granted()
        row = granted.row
        if self._clock.now() >= row.expires_at:
            raise Refusal("grant-expired", "This grant has expired.", "Request a new one.")
        try:
            await self._access.confirm(
                partner, row.study_instance_uid, purpose=row.purpose, role=row.role
            )
        except Refusal as refusal:
            await self._record_end(row, refusal)
            raise
        return granted

    async def _load(self, grant_id: bytes) -> _Granted | None:
        def work(tx: Tx) -> tuple[GrantRow, ManifestRow | None] | None:
            row = grants.grant(tx, grant_id)
            if row is None:
                return None
            return row, packs.get_manifest(tx, row.study_instance_uid, row.manifest_version)

        found = await self._db.read(work)
        if found is None:
            return None
        row, manifest = found
        data = b"" if manifest is None else manifest.signed.manifest
        granted = _Granted(row, data, await asyncio.to_thread(_ends, data))
        self._granted[grant_id] = granted
        while len(self._granted) > self._kept_grants:
            self._granted.popitem(last=False)
        return granted

    async def _record_end(self, row: GrantRow, refusal: Refusal) -> None:
        now = self._clock.now()

        def work(tx: Tx) -> None:
            if grants.revoke_grant(tx, row.grant_id, now):
                _record(tx, "release", "refused", row, now, {"reason": refusal.reason})

        await self._db.write(work)

    async def _record_misuse(self, partner: Partner, granted: _Granted | None) -> None:
        if granted is None:
            return
        now = self._clock.now()
        event = AuditEvent(
            action="release",
            outcome="refused",
            actor=partner_node(partner.peer_id, partner.name),
            study_instance_uid=granted.row.study_instance_uid,
            partner=partner.peer_id,
            detail={"grant": granted.row.grant_id.hex(), "reason": "another partner's grant"},
        )
        await self._db.write(lambda tx: audit.append(tx, event, now))

    # -- receipts ---------------------------------------------------------------------------
    async def receipt(self, message: ReceiptMessage, partner: Partner) -> None:
        """Put a partner's receipt on record, beside its grant and in the audit chain."""
        now = self._clock.now()
        body = open_receipt(
            message.statement,
            key=partner.record.node_public,
            author=partner.peer_id,
            me=self._keys.peer_id,
            now=now,
        )

        def work(tx: Tx) -> None:
            row = grants.grant(tx, body.grant_id)
            if row is None or row.partner != partner.peer_id:
                raise _not_granted()
            match_receipt(body, manifest_root=row.manifest_root, instances=row.instances)
            if row.receipt is not None and row.receipt.payload == message.statement.payload:
                return
            grants.put_receipt(tx, row.grant_id, message.statement, now)
            detail: dict[str, str | int] = {"outcome": body.outcome, "says": body.sentence()}
            _record(tx, "receipt", "success", row, now, detail)

        await self._db.write(work)
        self._granted.pop(body.grant_id, None)


def _record(
    tx: Tx,
    action: str,
    outcome: str,
    row: GrantRow,
    now: int,
    detail: dict[str, str | int],
) -> None:
    event = AuditEvent(
        action=action,
        outcome=outcome,
        actor=someone_at(row.partner, row.person, row.role, row.purpose),
        study_instance_uid=row.study_instance_uid,
        partner=row.partner,
        detail={"grant": row.grant_id.hex(), **detail},
    )
    audit.append(tx, event, now)


def _record_refusal(permit: Permit, refusal: Refusal, now: int, tx: Tx) -> None:
    """Put on record that a permit came to nothing."""
    event = AuditEvent(
        action="grant-refused",
        outcome="refused",
        actor=permit.actor,
        patient=str(permit.patient),
        study_instance_uid=permit.study_instance_uid,
        partner=permit.recipient,
        detail={"grant": permit.permit_id.hex(), "code": refusal.code, "reason": refusal.reason},
    )
    audit.append(tx, event, now)


def _not_settled() -> Refusal:
    return Refusal(
        "not-settled",
        "This study is still being received; it has no manifest yet.",
        "Ask again in a minute.",
    )


def _row(permit: Permit, request: GrantRequestBody, body: GrantBody, instances: int) -> GrantRow:
    return GrantRow(
        grant_id=body.grant_id,
        partner=PeerId(body.addressee),
        nonce=body.nonce,
        study_instance_uid=permit.study_instance_uid,
        retrieve_handle=body.retrieve_handle,
        manifest_version=body.manifest_version,
        manifest_root=body.manifest_root,
        instances=instances,
        person=request.person,
        role=request.role,
        purpose=request.purpose,
        issued_at=body.issued_at,
        expires_at=body.expires_at,
    )


def _ends(data: bytes) -> dict[bytes, int]:
    return ends_of(read_manifest(data)) if data else {}


def _inline(signed: SignedManifest) -> SignedManifest:
    """Return the manifest, or its signature alone if it is too long for a message."""
    if len(signed.manifest) <= MANIFEST_INLINE_BYTES:
        return signed
    return SignedManifest(b"", signed.signature)


def _not_granted() -> Refusal:
    return Refusal(
        "not-granted",
        "There is no such grant for your facility.",
        "Request a grant for the study.",
    )
