"""The origin's side of a search: multiply blinded points, and learn nothing from them."""

from __future__ import annotations

import asyncio
from typing import Final

from peer import audit
from peer.access import is_bounded, shares_with_alone
from peer.actors import Role, someone_at
from peer.alerts import glass_broken_by
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.index import key_epochs
from peer.index.database import Database, Tx
from peer.keys import NodeKeys
from peer.partners import Partner
from peer.reciprocity import Reciprocity
from protocol import evaluation
from protocol.consent import PurposeOfUse
from protocol.consent.directive import serves
from protocol.errors import Refusal
from protocol.evaluation import EVERYONE, Tier
from protocol.identifiers import PEER_ID_BYTES
from protocol.messages import AudienceAnswer, Evaluate, Evaluated

_NOBODY: Final = bytes(PEER_ID_BYTES)
"""An audience to which nothing is ever published: it is no facility's identity."""


class Evaluator:
    """Answers `Evaluate`; its method is a handler of the link."""

    def __init__(
        self, db: Database, keys: NodeKeys, clock: Clock, reciprocity: Reciprocity
    ) -> None:
        self._db = db
        self._master = keys.search_master
        self._clock = clock
        self._reciprocity = reciprocity

    async def evaluate(self, message: Evaluate, partner: Partner) -> Evaluated:
        """Return two audiences' answers: everyone's, and this partner's own.

        In the present key epoch, and in past ones as long as something stands there that the
        partner may find.  Always both, whether or not anything is published to them.  Consent is
        asked here too: when there is nothing any more that this partner alone may find, its own
        answer opens nothing, not even entries that it should have erased.

        Raises Refusal, or Malformed for points that are no group elements.  Either way it is on
        record before anything is answered.
        """

        def work(tx: Tx) -> tuple[tuple[bytes, int], ...] | Refusal:
            refusal = (
                refusal_for(message.role, message.purpose, partner)
                or self._reciprocity.objection(partner.peer_id, message.purpose)
                or _not_yet(tx, partner)
            )
            actor = someone_at(partner.peer_id, message.clinician, message.role, message.purpose)
            event = AuditEvent(
                action="evaluate",
                outcome="refused" if refusal else "success",
                actor=actor,
                partner=partner.peer_id,
                detail={"search_id": message.search_id.hex()}
                | ({"code": refusal.code} if refusal else {}),
            )
            now = self._clock.now()
            if refusal is None:
                detail = {"search_id": message.search_id.hex()}
                # On record there, since not each time.
                over = self._reciprocity.quotas.give_search(tx, partner, actor, detail)
                if over is not None:
                    return over
            audit.append(tx, event, now)
            if refusal is not None:
                return refusal
            glass_broken_by(tx, actor, partner.peer_id, "search", now)
            own = bytes(partner.peer_id)
            answered = own if shares_with_alone(tx, partner, now) else _NOBODY
            return tuple(
                each
                for everyone, its_own in key_epochs.answered(tx, EVERYONE, own)
                for each in ((EVERYONE, everyone), (answered, its_own))
            )

        audiences = await self._db.write(work)
        if isinstance(audiences, Refusal):
            raise audiences
        return await asyncio.to_thread(self._answer, message, audiences)

    def _answer(self, message: Evaluate, audiences: tuple[tuple[bytes, int], ...]) -> Evaluated:
        answers = {each: self._of_audience(message, *each) for each in dict.fromkeys(audiences)}
        return Evaluated(tuple(answers[each] for each in audiences))

    def _of_audience(self, message: Evaluate, audience: bytes, epoch: int) -> AudienceAnswer:
        strong, weak = (
            evaluation.evaluation_key(self._master, tier, audience, epoch)
            for tier in (Tier.STRONG, Tier.WEAK)
        )
        return AudienceAnswer(
            epoch,
            evaluation.answer(strong, message.strong),
            evaluation.answer(weak, message.weak),
        )


def _not_yet(tx: Tx, partner: Partner) -> Refusal | None:
    """Return a refusal for a new partner who could open what lies outside its terms."""
    if not is_bounded(partner.our_terms) or key_epochs.are_held(tx, partner.peer_id):
        return None
    return Refusal(
        "not-ready",
        "The facility is still preparing what it shares with yours.",
        "Search again in a minute.",
    )


def refusal_for(role: str, purpose: str, partner: Partner) -> Refusal | None:
    """Return why someone at `partner` must not search at all, or None."""
    if not partner.active:
        return Refusal(
            "not-a-partner",
            "This facility has no active agreement with yours.",
            "Pair the two facilities; both sides must confirm.",
        )
    if role != Role.CLINICIAN:
        return Refusal(
            "role",
            "Only someone in the role of a clinician may search.",
            "Ask the operator for that role, or ask a clinician.",
        )
    if purpose not in set(PurposeOfUse):
        return Refusal(
            "unknown-purpose",
            "The purpose of use is none of HL7 PurposeOfUse.",
            "Search with a purpose such as TREAT.",
        )
    allowed = frozenset(partner.our_terms.purposes)
    if allowed and not serves(allowed, purpose):
        return Refusal(
            "purpose",
            "The peering agreement does not cover searches for this purpose.",
            f"Search for one of: {', '.join(sorted(allowed))}; or agree on more purposes.",
        )
    return None
