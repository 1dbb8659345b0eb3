"""The asker's side of "ask hospital X": whose is the record that a search hints at."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from peer import audit
from peer.actors import Actor, Role, known_as
from peer.alerts import glass_broken_here
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.errors import NodeError, NotFound
from peer.index import labels, opened
from peer.index.database import Database, Tx
from peer.index.opened import Opened
from peer.keys import NodeKeys
from peer.partners import Partner
from peer.reciprocity import Reciprocity
from peer.search.answer import Question
from peer.search.opening import open_record, open_studies
from protocol.errors import RemoteProtocolError
from protocol.identifiers import EntryId, PeerId
from protocol.identify import (
    IDENTIFY_DOMAIN,
    IdentifyBody,
    Identity,
    Outcome,
    open_answer,
    person_hash,
    person_of,
    seal_question,
)
from protocol.limits import PROTOCOL_VERSION
from protocol.messages import Identified, Identify
from protocol.sealing import SECRET_BYTES
from protocol.signing import sign

SEARCH_ID_BYTES: Final = 16

_SENTENCES: Final = {
    Outcome.SAME: "The record belongs to this patient. Search again to see what is there.",
    Outcome.OTHER: "The record belongs to somebody else.",
    Outcome.PENDING: "Someone there must look at it. Ask again later for their answer.",
}


@dataclass(frozen=True, slots=True)
class Identification:
    """What a facility said about one of its records."""

    outcome: Outcome

    @property
    def sentence(self) -> str:
        """The outcome for a person."""
        return _SENTENCES[self.outcome]

    def to_json(self) -> dict[str, object]:
        """Return it as the API shows it."""
        return {"outcome": self.outcome.name.lower(), "sentence": self.sentence}


class Identifying:
    """Puts a person's description to the one facility whose record may be theirs."""

    def __init__(
        self,
        db: Database,
        partners_db: Database,
        keys: NodeKeys,
        clock: Clock,
        *,
        reciprocity: Reciprocity,
        partners: Callable[[], Iterable[Partner]],
        deadline_s: float,
    ) -> None:
        self._db = db
        self._partners_db = partners_db
        self._keys = keys
        self._clock = clock
        self._reciprocity = reciprocity
        self._partners = partners
        self._deadline_s = deadline_s

    async def ask(
        self,
        question: Question,
        facility: PeerId,
        record: EntryId,
        actor: Actor,
        emergency: str = "",
    ) -> Identification:
        """Return what `facility` says; a record that is the patient's is found from then on.

        The person is named to that facility: on record here before it is said.  `emergency`: why
        the glass is broken, for the purpose BTG and no other.  Raises NotFound, NotConnected, the
        facility's Refusal, or "too-little" as a search does.
        """
        question.must_narrow()
        partner = next((each for each in self._partners() if each.peer_id == facility), None)
        if partner is None:
            raise NotFound("This facility is no partner. Search again.")
        if await self._partners_db.read(lambda tx: labels.record(tx, facility, record)) is None:
            raise _gone()
        body = IdentifyBody(
            version=PROTOCOL_VERSION,
            author=self._keys.peer_id,
            addressee=facility,
            issued_at=self._clock.now(),
            search_id=secrets.token_bytes(SEARCH_ID_BYTES),
            entry_id=record,
            clinician=known_as(actor, self._keys.pseudonym_key),
            role=Role.CLINICIAN,
            purpose=actor.purpose,
            person=person_of(question.person),
        )
        event = _event("identify", body, actor, {"name": question.name})

        def on_record(tx: Tx) -> None:
            glass_broken_here(tx, actor, emergency, "identify", body.issued_at)
            audit.append(tx, event, body.issued_at)

        await self._db.write(on_record)
        identity = await self._put(body, partner)
        if identity.outcome is Outcome.SAME:
            await self._remember(question, body, identity)
        said = {"outcome": identity.outcome.name.lower()}
        answered = _event("identify-answered", body, actor, said)
        await self._db.write(lambda tx: audit.append(tx, answered, self._clock.now()))
        return Identification(identity.outcome)

    async def _put(self, body: IdentifyBody, partner: Partner) -> Identity:
        box = seal_question(
            partner.record.seal_public,
            secrets.token_bytes(SECRET_BYTES),
            body,
            lambda payload: sign(self._keys.node_seed, IDENTIFY_DOMAIN, payload),
        )
        try:
            answer = await self._reciprocity.ask(partner.peer_id, Identify(box), self._deadline_s)
            if not isinstance(answer, Identified):
                raise NodeError("The facility answered with something else. Tell its operator.")
            return self._keys.unsealed(partial(open_answer, box=answer.box, body=body))
        except TimeoutError as error:
            raise NodeError(
                f"The facility did not answer within {self._deadline_s:g} s. Ask again later."
            ) from error
        except RemoteProtocolError as error:
            raise NodeError(
                f"The facility's answer cannot be read ({error.code}). Tell its operator."
            ) from error

    async def _remember(self, question: Question, body: IdentifyBody, identity: Identity) -> None:
        origin, record = PeerId(body.addressee), EntryId(body.entry_id)
        now = self._clock.now()
        entry = await self._partners_db.read(lambda tx: labels.record(tx, origin, record))
        patient = None if entry is None else open_record(entry, identity.patient_key)
        if patient is None:
            raise _gone()
        uids = await self._uids(patient)

        def work(tx: Tx) -> None:
            opened.remember(tx, patient, uids, now)
            opened.confirm(tx, origin, record, person_hash(question.person))

        await self._db.write(work)

    async def _uids(self, patient: Opened) -> list[str]:
        studies = await self._partners_db.read(lambda tx: open_studies(tx, patient))
        return [each.digest.study_instance_uid for each in studies]


def _event(action: str, body: IdentifyBody, actor: Actor, detail: Mapping[str, str]) -> AuditEvent:
    return AuditEvent(
        action=action,
        outcome="success",
        actor=actor,
        partner=PeerId(body.addressee),
        detail={"search_id": body.search_id.hex(), "record": body.entry_id.hex(), **detail},
    )


def _gone() -> NotFound:
    return NotFound("The facility has withdrawn this record. Search again.")
