"""What an agreement allows in a day, counted and kept on both of its sides.

The origin counts in the transaction in which it answers, so that a restart forgets nothing.  The
asker asks its own record first, and an origin that has refused not before the next day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Protocol

from peer import audit
from peer.access import Permit
from peer.actors import Actor
from peer.alerts import over_quota
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.index import Database, Tx, quotas
from protocol.agreement import Terms
from protocol.errors import Refusal
from protocol.identifiers import PeerId
from protocol.messages import Evaluate, GrantRequest
from protocol.quota import (
    QUOTA,
    Use,
    closed_until,
    day_of,
    opens_at,
    refused_until,
    search_objection,
    study_objection,
)
from protocol.reciprocity import breaks_glass


class Bound(Protocol):
    """A partner, and what the agreement with it allows; `peer.partners.Partner` is one."""

    @property
    def peer_id(self) -> PeerId:
        """Who it is."""

    @property
    def our_terms(self) -> Terms:
        """What this facility offers it."""

    @property
    def their_terms(self) -> Terms:
        """What it offers this facility."""


class Quotas:
    """Counts what goes each way in a day, and says when it is enough."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._closed: dict[tuple[PeerId, type], int] = {}

    # -- what we give -----------------------------------------------------------------------------

    def give_search(
        self, tx: Tx, partner: Bound, actor: Actor, detail: Mapping[str, str]
    ) -> Refusal | None:
        """Count a search of a partner's that is about to be answered; return why it is not.

        Breaking the glass is counted, and never refused.  The first refusal of a day is put on
        record with `detail` and alerted to, and the others are counted.
        """
        now = self._clock.now()
        refusal = search_objection(
            partner.our_terms, quotas.given(tx, partner.peer_id, day_of(now)), now
        )
        if refusal is None or breaks_glass(actor.purpose):
            quotas.note(tx, partner.peer_id, day_of(now), quotas.SEARCHES)
            return None
        event = AuditEvent(
            "evaluate",
            "refused",
            actor,
            partner=partner.peer_id,
            detail={**detail, "code": refusal.code, "reason": refusal.reason},
        )
        self._refuse(tx, event, partner.peer_id, quotas.SEARCHES_REFUSED, now)
        return refusal

    def give_study(self, tx: Tx, partner: Bound, permit: Permit, size: int) -> Refusal | None:
        """Count a study that is about to be granted to a partner; return why it is not.

        As for a search; one that was granted today is granted again.  `size`: bytes of its packs.
        """
        actor, study_instance_uid = permit.actor, permit.study_instance_uid
        now = self._clock.now()
        day, peer_id = day_of(now), partner.peer_id
        refusal = study_objection(partner.our_terms, quotas.given(tx, peer_id, day), now)
        if (
            refusal is None
            or breaks_glass(actor.purpose)
            or quotas.has_study(tx, peer_id, day, study_instance_uid, given=True)
        ):
            quotas.note_study(tx, peer_id, day, study_instance_uid, size, given=True)
            return None
        event = AuditEvent(
            "grant-refused",
            "refused",
            actor,
            patient=str(permit.patient),
            study_instance_uid=study_instance_uid,
            partner=peer_id,
            detail={"code": refusal.code, "reason": refusal.reason},
        )
        self._refuse(tx, event, peer_id, quotas.STUDIES_REFUSED, now)
        return refusal

    def _refuse(self, tx: Tx, event: AuditEvent, peer_id: PeerId, what: str, now: int) -> None:
        if quotas.note(tx, peer_id, day_of(now), what) == 1:
            audit.append(tx, event, now)
            over_quota(tx, peer_id, now)

    # -- what we ask for --------------------------------------------------------------------------

    async def search_objection(self, partner: Bound, purpose: str) -> Refusal | None:
        """Return why a partner is not to be searched now, by our own record."""
        if breaks_glass(purpose):
            return None
        now = self._clock.now()
        use = await self._db.read(lambda tx: quotas.received(tx, partner.peer_id, day_of(now)))
        return search_objection(partner.their_terms, use, now) or self._heard(
            partner.peer_id, Evaluate
        )

    async def study_objection(
        self, partner: Bound, study_instance_uid: str, purpose: str
    ) -> Refusal | None:
        """Return why a partner is not to be asked for a study now, by our own record."""
        if breaks_glass(purpose):
            return None
        now = self._clock.now()
        day, peer_id = day_of(now), partner.peer_id

        def work(tx: Tx) -> Refusal | None:
            if quotas.has_study(tx, peer_id, day, study_instance_uid, given=False):
                return None
            return study_objection(partner.their_terms, quotas.received(tx, peer_id, day), now)

        return await self._db.read(work) or self._heard(peer_id, GrantRequest)

    def note_received(self, tx: Tx, origin: PeerId, study_instance_uid: str, size: int) -> None:
        """Count a study that a partner has granted; searches are counted by their answers."""
        day = day_of(self._clock.now())
        quotas.note_study(tx, origin, day, study_instance_uid, size, given=False)

    def heard(self, peer_id: PeerId, question: type, code: str) -> None:
        """Take note of a partner's refusal to a kind of message."""
        if code == QUOTA:
            self._closed[peer_id, question] = closed_until(self._clock.now())

    def _heard(self, peer_id: PeerId, question: type) -> Refusal | None:
        until = self._closed.get((peer_id, question), 0)
        now = self._clock.now()
        # One beyond the next day is of a clock that has been set back since.
        return refused_until(until) if now < until <= opens_at(now) else None

    # -- what is shown ----------------------------------------------------------------------------

    async def today(self, partner: Bound) -> dict[str, object]:
        """Return what is used of each figure and what is agreed, both ways, as the API shows it."""
        now = self._clock.now()
        peer_id, day = partner.peer_id, day_of(now)
        gave, got = await self._db.read(
            lambda tx: (quotas.given(tx, peer_id, day), quotas.received(tx, peer_id, day))
        )
        return {
            "opens_at": opens_at(now),
            "given": _figures(gave, partner.our_terms),
            "received": _figures(got, partner.their_terms),
        }


def _figures(use: Use, terms: Terms) -> dict[str, object]:
    agreed = {
        "searches": terms.daily_searches,
        "studies": terms.daily_studies,
        "bytes": terms.daily_bytes,
    }
    return {what: {"used": used, "agreed": agreed[what]} for what, used in asdict(use).items()}
