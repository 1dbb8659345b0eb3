"""Partners: the trust table with everything that changes it, each change durable and audited."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeAlias

from peer.actors import NODE, Actor
from peer.audit import AuditEvent, append
from peer.clock import Clock
from peer.config import Pairing
from peer.errors import Conflict, NotFound
from peer.index import delegations
from peer.index import partners as rows
from peer.index.database import Database, Tx
from peer.index.partners import REMOVED, PartnerRow
from peer.keys import NodeKeys
from peer.outbound import Proxy
from peer.partners.calls import PairingCalls
from peer.partners.pairings import Pairings
from peer.partners.trust import Partner, TrustTable, partner_of
from peer.partners.wordlist import word_list
from protocol.agreement import Terms
from protocol.errors import Refusal, Replayed
from protocol.identifiers import PeerId
from protocol.keyrecord import SignedKeyRecord, follow_record, verify_record
from protocol.pairing import words

Changed: TypeAlias = Callable[[PeerId, str], Awaitable[None] | None]
"""Called with the partner and its new state, or RECORD for new keys or addresses."""

OwnRecord: TypeAlias = Callable[[SignedKeyRecord], Awaitable[None]]
"""Called with a later key record of our own facility than the one that this node has."""

RECORD = "record"


class Partners:
    """The facilities this one deals with.

    `load` first; then `all`, `active`, `get` and `by_certificate` answer from memory.  `terms` is
    what this facility offers in a new pairing, `proxy` the way out, if it is one.
    """

    def __init__(
        self,
        db: Database,
        keys: NodeKeys,
        clock: Clock,
        settings: Pairing,
        *,
        terms: Terms | None = None,
        proxy: Proxy = Proxy(),  # noqa: B008 - Proxy is frozen
    ) -> None:
        self._db = db
        self._keys = keys
        self._clock = clock
        self._calls = PairingCalls(settings.call_s, proxy)
        self._trust = TrustTable()
        self._listeners: list[Changed] = []
        self._own_record: OwnRecord | None = None
        self.pairings = Pairings(
            db, keys, clock, settings, self._calls, terms or Terms(), self._trust, self._adopt
        )

    # -- reading ----------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read the table from the index."""
        for row in await self._db.read(rows.every):
            self._trust.put(_view(row))

    def all(self) -> tuple[Partner, ...]:
        """Return every partner, the removed ones too."""
        return self._trust.every()

    def active(self) -> tuple[Partner, ...]:
        """Return the partners with whom both sides have confirmed."""
        return tuple(partner for partner in self._trust.every() if partner.active)

    def get(self, peer_id: PeerId) -> Partner | None:
        """Return a partner in whatever state, or None."""
        return self._trust.get(peer_id)

    def trusted(self, peer_id: PeerId) -> Partner:
        """Return an active partner; raise Refusal if the facility is none."""
        partner = self.get(peer_id)
        if partner is None or not partner.active:
            raise Refusal(
                "not-a-partner",
                "This facility is no partner.",
                "The list of partners shows who is; a new one is invited there.",
            )
        return partner

    def name(self, peer_id: PeerId) -> str:
        """Return what a facility calls itself, or its identity in hex if it is unknown here."""
        partner = self.get(peer_id)
        return peer_id.hex() if partner is None else partner.name

    def by_certificate(self, der: bytes | None) -> Partner | None:
        """Return the active partner whose pinned certificate this is, or None."""
        return self._trust.by_certificate(der)

    def on_change(self, listener: Changed) -> None:
        """Have `listener` called after each change; it is awaited if it returns an awaitable."""
        self._listeners.append(listener)

    # -- pairing ----------------------------------------------------------------------------------

    async def invite(self, actor: Actor, valid_s: int | None = None) -> tuple[str, int]:
        """Return a new invitation string and the instant at which it expires."""
        return await self.pairings.invite(actor, valid_s)

    async def join(self, invitation: str, actor: Actor) -> Partner:
        """Answer an invitation; the partner is pending, and its words are to be compared."""
        return await self.pairings.join(invitation, actor)

    async def confirm(self, peer_id: PeerId, actor: Actor, compared: str | None = None) -> Partner:
        """Record that a person here has compared the words."""
        return await self.pairings.confirm(peer_id, actor, compared)

    async def run(self) -> None:
        """Carry confirmations to the other sides until cancelled."""
        await self.pairings.run()

    # -- ending and following ---------------------------------------------------------------------

    async def remove(
        self, peer_id: PeerId, actor: Actor, reason: str, *, by_them: bool = False
    ) -> Partner:
        """End a partnership, or decline a pending one; at once, even if the index is out of order.

        Only a new pairing undoes it.  Raise NotFound or Conflict.
        """
        partner = self._trust.get(peer_id)
        if partner is None:
            raise NotFound("This facility is no partner. The list of partners shows who is.")
        if partner.state == REMOVED:
            raise Conflict("This partner has been removed already.")
        now = self._clock.now()
        removed = replace(partner, state=REMOVED, since=now, reason=reason)
        self._trust.put(removed)  # Refuses every further request while the index is written.

        def work(tx: Tx) -> None:
            row = rows.get(tx, peer_id)
            if row is not None:
                rows.put(tx, replace(row, state=REMOVED, since=now, reason=reason, reveal=None))
                rows.deny(tx, row, now, reason, by_them=by_them)
            delegations.forget(tx, peer_id)
            detail = {"reason": reason, "by": "them" if by_them else "us"}
            append(
                tx,
                AuditEvent("partner-remove", "success", actor, partner=peer_id, detail=detail),
                now,
            )

        try:
            await self._db.write(work)
        finally:
            await self._announce(peer_id, REMOVED)
        return removed

    async def accept_record(self, signed: SignedKeyRecord) -> None:
        """Trust the keys in a partner's newer key record from now on.

        Raise Refusal for a facility that is no partner, and what `follow_record` raises.
        """
        record, now = verify_record(signed), self._clock.now()
        peer_id = PeerId(record.peer_id)
        stranger = Refusal("not-a-partner", "This facility is no partner.", "Pair with it first.")

        held = self._trust.get(peer_id)
        if held is None or held.state == REMOVED:
            raise stranger  # Whoever knows a key can send its record; it costs no transaction.
        self._trust.check(record)

        def work(tx: Tx) -> tuple[PartnerRow, bool]:
            row = rows.get(tx, peer_id)
            if row is None or row.state == REMOVED:
                raise stranger
            follow_record(row.record, signed)
            after = replace(row, record=signed)
            is_new = signed != row.record
            if is_new:
                rows.put(tx, after)
                detail: dict[str, str | int] = {"key record": record.revision}
                event = AuditEvent("partner-keys", "success", NODE, partner=peer_id, detail=detail)
                append(tx, event, now)
            return after, is_new

        row, is_new = await self._db.write(work)
        shown = self._trust.get(peer_id)
        if shown is not None and shown.record.revision > record.revision:
            return  # A newer one was followed while this one was being written.
        is_new = is_new or shown is None or shown.record != record
        await self._adopt(row, RECORD if is_new else "")

    def on_own_record(self, learn: OwnRecord) -> None:
        """Have `learn` awaited when somebody shows a later key record of our own facility."""
        self._own_record = learn

    async def swap_records(self, signed: SignedKeyRecord) -> SignedKeyRecord:
        """Follow the key record that somebody brings; return the one to answer with.

        That is ours, or, if a facility brings an older record of itself than is held here, the one
        that is held: its node was restored, and knows no better.  Raise as `accept_record` does.
        """
        record = verify_record(signed)
        if record.peer_id == self._keys.peer_id:
            await self._learn_own(signed)
            return self._keys.record
        try:
            await self.accept_record(signed)
        except Replayed:
            row = await self._db.read(lambda tx: rows.get(tx, PeerId(record.peer_id)))
            if row is None:
                raise
            return row.record
        return self._keys.record

    async def _learn_own(self, signed: SignedKeyRecord) -> None:
        """Take note of a key record that our own root has signed, if it is later than ours."""
        known = self._keys.newer or self._keys.record
        if self._own_record is not None and (
            verify_record(signed, self._keys.peer_id).revision > verify_record(known).revision
        ):
            await self._own_record(signed)

    async def catch_up(self, peer_id: PeerId) -> bool:
        """Ask a partner's pairing listener for its newest key record; return whether it is newer.

        If it is older than what is held here, the partner is shown what it has lost.  Raise Refusal
        if the listener cannot be reached or answers for another facility.
        """
        partner = self._trust.get(peer_id)
        if partner is None or partner.state == REMOVED or not partner.record.pairing_url:
            return False
        signed, record = await self._calls.fetch_record(partner.record.pairing_url, peer_id)
        if record.revision < partner.record.revision:
            row = await self._db.read(lambda tx: rows.get(tx, peer_id))
            if row is not None:
                await self._calls.swap_records(partner.record.pairing_url, peer_id, row.record)
        if record.revision <= partner.record.revision:
            return False
        await self.accept_record(signed)
        return True

    async def introduce(self, peer_id: PeerId) -> None:
        """Bring our key record to a partner's pairing listener, and follow the one it answers with.

        Raise Refusal for its "no", or if it cannot be reached or another facility answers there.
        """
        partner = self._trust.get(peer_id)
        if partner is None or not partner.record.pairing_url:
            return
        ours = self._keys.record
        signed, record = await self._calls.swap_records(partner.record.pairing_url, peer_id, ours)
        if record.peer_id == self._keys.peer_id:
            await self._learn_own(signed)
            return
        await self.note_held(peer_id, verify_record(ours).revision)
        if record.revision > partner.record.revision:
            await self.accept_record(signed)

    async def note_held(self, peer_id: PeerId, revision: int) -> None:
        """Note which revision of our own key record a partner holds."""
        partner = self._trust.get(peer_id)
        if partner is None or partner.holds == revision:
            return

        def work(tx: Tx) -> None:
            row = rows.get(tx, peer_id)
            if row is not None:
                rows.put(tx, replace(row, record_held=revision))

        await self._db.write(work)
        # Not the row that was written: what else it says may have changed while it was.
        partner = self._trust.get(peer_id)
        if partner is not None:
            self._trust.put(replace(partner, holds=revision))

    # -- changes ----------------------------------------------------------------------------------

    async def _adopt(self, row: PartnerRow, what: str) -> Partner:
        """Show what was written to the index; tell the listeners unless `what` is ''."""
        partner = _view(row)
        held = self._trust.get(row.peer_id)
        if (
            held is not None
            and held.state == REMOVED
            and held.agreement.pairing_id == row.pairing.pairing_id
        ):
            return held  # Removed while the row was being written.
        self._trust.put(partner)
        if what:
            await self._announce(row.peer_id, what)
        return partner

    async def _announce(self, peer_id: PeerId, what: str) -> None:
        pending = [listener(peer_id, what) for listener in self._listeners]
        for each in pending:
            if inspect.isawaitable(each):
                await each


def _view(row: PartnerRow) -> Partner:
    return partner_of(row, " ".join(words(row.pairing, word_list())))
