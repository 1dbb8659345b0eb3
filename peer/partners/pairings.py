"""The effects of a pairing: what is sent to and answered by pairing listeners.

Each state is saved before it is spoken of.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeAlias

from peer.actors import NODE, Actor
from peer.audit import AuditEvent, append
from peer.clock import Clock
from peer.config import Pairing
from peer.errors import Conflict, NotFound
from peer.index import partners as rows
from peer.index.database import Database, Tx
from peer.index.partners import ACTIVE, PENDING, REMOVED, PartnerRow
from peer.keys import NodeKeys
from peer.partners.calls import AGREED_PATH, JOIN_PATH, NOT_HEARD, REVEAL_PATH, PairingCalls
from peer.partners.trust import Partner, TrustTable
from protocol import pairing as rules
from protocol.agreement import Terms
from protocol.errors import BadSignature, Refusal, RemoteProtocolError
from protocol.identifiers import PeerId
from protocol.invitation import SECRET_BYTES, Invitation, read_invitation, write_invitation
from protocol.keyrecord import KeyRecord, verify_record
from protocol.limits import INVITATION_MOST_S, PROTOCOL_VERSION
from protocol.pairing import Agreed, Join, Joined, Reveal, Side, Stage
from protocol.records import to_bytes

FIRST_RETRY_S: Final = 1.0
"""Two people are on the telephone; they wait for the screens to turn green."""

KEPT_S: Final = INVITATION_MOST_S
"""How long an expired invitation is remembered, so that its second use can be named as such."""

NONCE_BYTES: Final = 32

Adopt: TypeAlias = Callable[[PartnerRow, str], Awaitable[Partner]]


class Pairings:
    """Both sides of every pairing of this node.

    `adopt` is told each row that was written, and what changed, '' if nothing that others act on.
    """

    def __init__(
        self,
        db: Database,
        keys: NodeKeys,
        clock: Clock,
        settings: Pairing,
        calls: PairingCalls,
        terms: Terms,
        trust: TrustTable,
        adopt: Adopt,
    ) -> None:
        self._db = db
        self._keys = keys
        self._clock = clock
        self._settings = settings
        self._calls = calls
        self._terms = to_bytes(terms)
        self._trust = trust
        self._adopt = adopt
        self._kick = asyncio.Event()
        self._troubles: dict[PeerId, Refusal] = {}

    @property
    def _side(self) -> Side:
        return Side(self._keys.record, self._terms)

    def trouble(self, peer_id: PeerId) -> Refusal | None:
        """Return why the last message of a pairing did not get through, or None."""
        return self._troubles.get(peer_id)

    # -- what people do ----------------------------------------------------------------------------

    async def invite(self, actor: Actor, valid_s: int | None = None) -> tuple[str, int]:
        """Return a new invitation string and the instant at which it expires.

        Raise Refusal if nobody could answer it: the pairing listener has no address.
        """
        url = self._keys.key_record.pairing_url
        if not url:
            raise Refusal(
                "outbound-only",
                "This node has no address at which others could answer an invitation.",
                "Let the other facility invite, or sign a key record with a pairing address.",
            )
        valid_s = self._settings.invitation_s if valid_s is None else valid_s
        if not 0 < valid_s <= INVITATION_MOST_S:
            raise Refusal(
                "bad-validity",
                f"An invitation is valid for 1 to {INVITATION_MOST_S} seconds.",
                "Choose a shorter time.",
            )
        now = self._clock.now()
        invitation = Invitation(
            version=PROTOCOL_VERSION,
            peer_id=self._keys.peer_id,
            secret=secrets.token_bytes(SECRET_BYTES),
            expires_at=now + valid_s,
            urls=(url,),
        )

        def work(tx: Tx) -> None:
            rows.forget_offers(tx, now - KEPT_S)
            rows.put_offer(tx, rules.open_offer(invitation))
            append(tx, AuditEvent("invite", "success", actor), now)

        await self._db.write(work)
        return write_invitation(invitation), invitation.expires_at

    async def join(self, text: str, actor: Actor) -> Partner:
        """Answer the invitation in `text`: connect, prove the secret, and learn the words.

        Raise RemoteProtocolError for a damaged or expired invitation, Refusal if the inviter cannot
        be reached or says no.
        """
        invitation = read_invitation(text, self._clock.now())
        url, record = await self._find(invitation)
        self._check_newcomer(record)
        nonce = secrets.token_bytes(NONCE_BYTES)
        join = rules.begin_join(invitation, self._side, nonce)
        joined = await self._calls.send(url, JOIN_PATH, record.tls_certificate, join, Joined)
        now = self._clock.now()
        pairing, reveal = rules.receive_joined(
            invitation, join, nonce, joined, self._keys.node_seed, now
        )
        row = self._row(pairing, reveal, url, now)
        await self._db.write(lambda tx: self._begin(tx, row, actor, now))
        partner = await self._adopt(row, PENDING)
        try:
            await self._reveal(row)
        except Refusal as refusal:
            if refusal.code not in NOT_HEARD:
                await self._give_up(row, refusal)
                raise
            self._troubles[row.peer_id] = refusal
            self._kick.set()
        return partner

    async def confirm(self, peer_id: PeerId, actor: Actor, compared: str | None = None) -> Partner:
        """Sign the agreement: a person here has compared the words (`compared`, if typed in).

        Raise NotFound, Conflict if it is not pending, Refusal if the words are others.
        """
        partner = self._trust.get(peer_id)
        if partner is None:
            raise NotFound("No pairing with this facility was begun. Exchange an invitation first.")
        if compared is not None and compared.lower().split() != partner.words.split():
            raise Refusal(
                "wrong-words",
                "These are not the words of this pairing.",
                "If the other side reads other words, somebody is in between: remove the partner.",
            )
        now = self._clock.now()

        def work(tx: Tx) -> PartnerRow:
            row = rows.get(tx, peer_id)
            if row is None or row.state == REMOVED:
                raise Conflict("This pairing was ended. Exchange a new invitation.")
            if row.pairing.my_signature:
                return row
            signed = _signed(row.pairing, self._keys.node_seed)
            append(tx, AuditEvent("partner-confirm", "success", actor, partner=peer_id), now)
            return self._store(tx, row, signed, now)

        row = await self._db.write(work)
        self._kick.set()
        return await self._adopt(row, row.state)

    # -- what the other side does (called by the pairing listener) ---------------------------------

    async def receive_join(self, join: Join) -> Joined:
        """Answer the first message of a joiner."""
        self._check_newcomer(verify_record(join.side.record))
        nonce, now = secrets.token_bytes(NONCE_BYTES), self._clock.now()

        def work(tx: Tx) -> Joined:
            offer = _known_offer(tx, join.invitation_id)
            offer, joined = rules.receive_join(offer, join, self._side, nonce, now)
            rows.put_offer(tx, offer)
            return joined

        return await self._db.write(work)

    async def receive_reveal(self, reveal: Reveal) -> Agreed:
        """Answer the message that completes a joiner's proof."""
        now = self._clock.now()

        def work(tx: Tx) -> tuple[PartnerRow | None, Agreed]:
            before = _known_offer(tx, reveal.invitation_id)
            offer, pairing = rules.receive_reveal(before, reveal, now)
            if offer == before:
                return None, rules.agreed(pairing)
            row = self._row(pairing, None, "", now)
            rows.put_offer(tx, offer)
            self._begin(tx, row, NODE, now)
            return row, rules.agreed(pairing)

        row, answer = await self._db.write(work)
        if row is not None:
            await self._adopt(row, PENDING)
        return answer

    async def receive_agreed(self, message: Agreed) -> Agreed:
        """Take in the other side's confirmation and answer with our own, if it is given."""
        now = self._clock.now()

        def work(tx: Tx) -> tuple[PartnerRow, PartnerRow]:
            if rows.is_denied(tx, message.pairing_id):
                raise Refusal(
                    "removed",
                    "They have declined or ended this partnership.",
                    "Exchange a new invitation if that was a mistake.",
                )
            before = rows.by_pairing(tx, message.pairing_id)
            if before is None:
                raise Refusal("pairing-unknown", "They know nothing of this pairing.", "Pair anew.")
            pairing = rules.receive_agreed(before.pairing, message)
            delivered = before.delivered or pairing.stage is Stage.COMPLETE
            row = replace(before, delivered=delivered)
            return before, self._store(tx, row, pairing, now)

        before, after = await self._db.write(work)
        await self._adopt(after, after.state if after.pairing != before.pairing else "")
        return rules.agreed(after.pairing)

    # -- carrying confirmations over ---------------------------------------------------------------

    async def run(self) -> None:
        """Send what is owed to the other sides, until cancelled."""
        pause = FIRST_RETRY_S
        while True:
            self._kick.clear()
            owed = [row for row in await self._db.read(rows.every) if _owes(row)]
            advanced = await asyncio.gather(*(self._advance(row) for row in owed))
            if any(advanced):
                pause = FIRST_RETRY_S
            # Nothing owed: sleep until a person confirms or joins.
            timeout = pause * random.uniform(0.75, 1.25) if owed else None  # noqa: S311 - jitter
            try:
                async with asyncio.timeout(timeout):
                    await self._kick.wait()
                pause = FIRST_RETRY_S
            except TimeoutError:
                pause = min(2 * pause, self._settings.retry_most_s)

    async def _advance(self, row: PartnerRow) -> bool:
        """Send one row's next message; return whether that changed anything."""
        try:
            if row.reveal is not None:
                await self._reveal(row)
                return True
            return await self._exchange_agreed(row)
        except Refusal as refusal:
            self._troubles[row.peer_id] = refusal
        except RemoteProtocolError as error:
            self._troubles[row.peer_id] = Refusal(error.code, f"Their answer is wrong: {error}.")
        return False

    async def _reveal(self, row: PartnerRow) -> None:
        await self._send(row, REVEAL_PATH, row.reveal)
        await self._db.write(lambda tx: _answered(tx, row))
        self._kick.set()

    async def _give_up(self, row: PartnerRow, refusal: Refusal) -> None:
        """End a pairing that the inviter has refused at its last step."""
        now = self._clock.now()
        after = replace(row, state=REMOVED, since=now, reason=refusal.reason, reveal=None)

        def work(tx: Tx) -> None:
            rows.put(tx, after)
            rows.deny(tx, row, now, refusal.reason, by_them=True)

        await self._db.write(work)
        await self._adopt(after, REMOVED)

    async def _exchange_agreed(self, row: PartnerRow) -> bool:
        answer = await self._send(row, AGREED_PATH, rules.agreed(row.pairing))
        now = self._clock.now()

        def work(tx: Tx) -> PartnerRow | None:
            held = rows.by_pairing(tx, row.pairing.pairing_id)
            if held is None or held.state == REMOVED:
                return None
            pairing = rules.receive_agreed(held.pairing, answer)
            return self._store(tx, replace(held, delivered=True), pairing, now)

        after = await self._db.write(work)
        if after is None:
            return False
        changed = after.pairing != row.pairing
        await self._adopt(after, after.state if changed else "")
        return changed

    async def _send(self, row: PartnerRow, path: str, message: object) -> Agreed:
        record = verify_record(row.record, row.peer_id)
        url = record.pairing_url or row.pairing_url
        answer = await self._calls.send(url, path, record.tls_certificate, message, Agreed)
        self._troubles.pop(row.peer_id, None)
        return answer

    # -- parts -------------------------------------------------------------------------------------

    async def _find(self, invitation: Invitation) -> tuple[str, KeyRecord]:
        """Return the first address at which the inviter answers, and its key record."""
        refusals = []
        for url in invitation.urls:
            try:
                _, record = await self._calls.fetch_record(url, PeerId(invitation.peer_id))
            except Refusal as refusal:
                refusals.append(refusal)
            else:
                return url, record
        raise refusals[0]

    def _check_newcomer(self, record: KeyRecord) -> None:
        self._trust.check(record)
        partner = self._trust.get(PeerId(record.peer_id))
        if partner is not None and partner.active:
            raise _already_partners()

    def _row(self, pairing: rules.Pairing, reveal: Reveal | None, url: str, now: int) -> PartnerRow:
        return PartnerRow(
            peer_id=PeerId(pairing.partner),
            state=PENDING,
            record=pairing.partner_record,
            pairing=pairing,
            reveal=reveal,
            delivered=False,
            pairing_url=url,
            since=now,
            record_held=self._keys.key_record.revision,
        )

    def _begin(self, tx: Tx, row: PartnerRow, actor: Actor, now: int) -> None:
        """Store a new pairing; the facility's earlier one, unless active, makes room."""
        held = rows.get(tx, row.peer_id)
        if held is not None and held.state == ACTIVE:
            raise _already_partners()
        rows.put(tx, row)
        append(tx, AuditEvent("pair", "success", actor, partner=row.peer_id), now)

    def _store(self, tx: Tx, row: PartnerRow, pairing: rules.Pairing, now: int) -> PartnerRow:
        """Store a pairing's progress; complete, it makes the partner active."""
        after = replace(row, pairing=pairing)
        if pairing.stage is Stage.COMPLETE and row.state == PENDING:
            after = replace(after, state=ACTIVE, since=now)
            detail = {"pairing": pairing.pairing_id.hex()}
            event = AuditEvent("pair", "success", NODE, partner=row.peer_id, detail=detail)
            append(tx, event, now)
        if after != row:
            rows.put(tx, after)
        return after


def _signed(pairing: rules.Pairing, node_seed: bytes) -> rules.Pairing:
    try:
        return rules.confirm(pairing, node_seed)
    except BadSignature as error:
        raise Conflict(
            "This node was given new keys since this pairing began. Remove the partner, and "
            "exchange a new invitation."
        ) from error


def _already_partners() -> Refusal:
    return Refusal(
        "already-partners",
        "The inviter and the joiner are partners already.",
        "If one side has lost its keys or removed the other, remove it on both sides first.",
    )


def _known_offer(tx: Tx, invitation_id: bytes) -> rules.Offer:
    offer = rows.offer(tx, invitation_id)
    if offer is None:
        raise Refusal(
            "invitation-unknown",
            "They have not made this invitation, or it is long over.",
            "Ask the other side for a new invitation.",
        )
    return offer


def _answered(tx: Tx, row: PartnerRow) -> None:
    held = rows.by_pairing(tx, row.pairing.pairing_id)
    if held is not None:
        rows.put(tx, replace(held, reveal=None))


def _owes(row: PartnerRow) -> bool:
    """Whether a message of this pairing has still to be sent, and can be."""
    record = verify_record(row.record, row.peer_id)
    if row.state == REMOVED or not (row.pairing_url or record.pairing_url):
        return False
    if row.reveal is not None:
        return True
    if not row.pairing.my_signature:
        return False
    return not (row.delivered and row.pairing.their_signature)
