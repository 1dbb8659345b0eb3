"""The origin's side of "ask hospital X": the matcher answers, or a person decides."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from peer import audit
from peer.access import Access, shares_with_alone
from peer.actors import Actor, someone_at
from peer.alerts import glass_broken_by
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.errors import NotFound
from peer.index import Database, Tx, identities, nicknames, patients, publications
from peer.index.identities import IdentityQuestion
from peer.index.publications import PublishedPatient
from peer.keys import NodeKeys
from peer.link import Links
from peer.partners import Partner
from peer.reciprocity import Reciprocity
from peer.search.local import person_of
from peer.search.origin import refusal_for
from protocol.errors import Refusal
from protocol.evaluation import EVERYONE
from protocol.identifiers import PeerId
from protocol.identify import (
    IdentifyBody,
    Identity,
    Outcome,
    demographics_of,
    open_question,
    outcome_of,
    person_hash,
    seal_answer,
)
from protocol.matching.keys import Demographics
from protocol.matching.score import Score, score
from protocol.messages import Identified, Identify
from protocol.sealing import SECRET_BYTES

HOUR_S: Final = 3600


@dataclass(frozen=True, slots=True)
class WaitingQuestion:
    """A question at which someone here must look: whom the partner means, and whom we know."""

    asked: IdentityQuestion
    facility: str
    theirs: Demographics
    ours: Demographics
    score: Score


class Identities:
    """Answers partners' questions about single records, and keeps those that a person must answer.

    `per_hour`: how many different questions one partner may ask in an hour.
    """

    def __init__(
        self,
        db: Database,
        keys: NodeKeys,
        links: Links,
        clock: Clock,
        *,
        access: Access,
        reciprocity: Reciprocity,
        name_of: Callable[[PeerId], str],
        per_hour: int,
    ) -> None:
        self._db = db
        self._keys = keys
        self._clock = clock
        self._access = access
        self._reciprocity = reciprocity
        self._name_of = name_of
        self._per_hour = per_hour
        self._nicknames = nicknames.load()
        links.handle(Identify, self.identify)

    # -- partners ---------------------------------------------------------------------------------

    async def identify(self, message: Identify, partner: Partner) -> Identified:
        """Answer whether a record of ours is of a person; on record before it is answered.

        Raises Refusal, or what `open_question` raises.
        """
        now = self._clock.now()
        read = partial(
            open_question,
            box=message.box,
            key=partner.record.node_public,
            author=partner.peer_id,
            me=self._keys.peer_id,
            now=now,
        )
        body = self._keys.unsealed(read)
        answer = await self._db.write(lambda tx: self._judge(tx, body, partner, now))
        if isinstance(answer, Refusal):
            raise answer
        secret = secrets.token_bytes(SECRET_BYTES)
        return Identified(seal_answer(partner.record.seal_public, secret, body, answer))

    def _judge(self, tx: Tx, body: IdentifyBody, partner: Partner, now: int) -> Identity | Refusal:
        published = publications.with_entry(tx, body.entry_id)
        actor = someone_at(partner.peer_id, body.clinician, body.role, body.purpose)
        answer: Identity | Refusal | None = refusal_for(
            body.role, body.purpose, partner
        ) or self._reciprocity.objection(partner.peer_id, body.purpose)
        if answer is None:
            glass_broken_by(tx, actor, partner.peer_id, "identify", now)
            answer = self._objection(tx, published, body, partner, now)
        if answer is None and published is not None:
            answer = self._compare(tx, published, body, partner, now)
        answer = answer or _not_published()
        said = answer.code if isinstance(answer, Refusal) else answer.outcome.name.lower()
        event = AuditEvent(
            action="identify",
            outcome="refused" if isinstance(answer, Refusal) else "success",
            actor=actor,
            patient="" if published is None else str(published.patient),
            partner=partner.peer_id,
            detail={"search_id": body.search_id.hex(), "answer": said},
        )
        audit.append(tx, event, now)
        return answer

    def _objection(
        self,
        tx: Tx,
        published: PublishedPatient | None,
        body: IdentifyBody,
        partner: Partner,
        now: int,
    ) -> Refusal | None:
        """Return why this partner must not be told anything about the record, or None."""
        own = bytes(partner.peer_id)
        if identities.asked_since(tx, partner.peer_id, now - HOUR_S) >= self._per_hour:
            return Refusal(
                "quota",
                f"Your facility has asked {self._per_hour} such questions in the last hour.",
                "Ask again in an hour, or agree on more with the facility.",
            )
        if published is None or published.audience not in (EVERYONE, own):
            return _not_published()
        if published.audience == own and not shares_with_alone(tx, partner, now):
            return _not_published()
        objection: Refusal | None = _not_published()
        for study in publications.studies_of(tx, published.published):
            if objection is not None and study.study_instance_uid is not None:
                objection = self._access.objection(
                    tx, study.study_instance_uid, partner, purpose=body.purpose, role=body.role
                )
        return objection

    def _compare(
        self,
        tx: Tx,
        published: PublishedPatient,
        body: IdentifyBody,
        partner: Partner,
        now: int,
    ) -> Identity:
        row = patients.get(tx, published.patient)
        person = demographics_of(body.person)
        asked_for = person_hash(person)
        before = identities.find(tx, partner.peer_id, asked_for, published.patient)
        if row is None:
            return Identity(Outcome.OTHER)
        shares = patients.name_shares(tx, person)
        population = patients.counted(tx)
        outcome = outcome_of(score(person, person_of(row), self._nicknames, population, shares))
        if before is not None and before.same is not None:
            outcome = Outcome.SAME if before.same else Outcome.OTHER
        asked = IdentityQuestion(
            question=0,
            partner=partner.peer_id,
            person=asked_for,
            patient=published.patient,
            asked_at=now,
            clinician=body.clinician,
            purpose=body.purpose,
            description=body.person if outcome is Outcome.PENDING else None,
            same=None,
        )
        identities.put(tx, asked)
        if outcome is Outcome.SAME:
            return Identity(outcome, published.patient_key)
        return Identity(outcome)

    # -- people here ------------------------------------------------------------------------------

    async def waiting(self) -> list[WaitingQuestion]:
        """Return the questions at which someone here must look, the oldest first."""
        return await self._db.read(self._waiting)

    def _waiting(self, tx: Tx) -> list[WaitingQuestion]:
        found = []
        for asked in identities.waiting(tx):
            row = patients.get(tx, asked.patient)
            if row is None or asked.description is None:
                continue
            theirs, ours = demographics_of(asked.description), person_of(row)
            shares = patients.name_shares(tx, theirs)
            fit = score(theirs, ours, self._nicknames, shares=shares)
            found.append(WaitingQuestion(asked, self._name_of(asked.partner), theirs, ours, fit))
        return found

    async def decide(self, question: int, actor: Actor, *, same: bool) -> None:
        """Say whether it is one person; the partner gets the answer when it asks again.

        Raises NotFound if no such question waits.
        """
        now = self._clock.now()

        def work(tx: Tx) -> None:
            asked = identities.decide(tx, question, same=same, by=actor.name, now=now)
            if asked is None:
                raise NotFound("No such question waits for an answer.")
            event = AuditEvent(
                action="identify-decided",
                outcome="success",
                actor=actor,
                patient=str(asked.patient),
                partner=asked.partner,
                detail={"same": "yes" if same else "no"},
            )
            audit.append(tx, event, now)

        await self._db.write(work)


def _not_published() -> Refusal:
    return Refusal(
        "not-published",
        "This record is not, or no longer, published to your facility.",
        "Search again; if it should be there, ask the facility that holds it.",
    )
