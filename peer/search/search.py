"""One question, every facility, one list."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from peer import audit
from peer.actors import Actor, known_as
from peer.alerts import glass_broken_here
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.config import Settings
from peer.errors import Conflict
from peer.index import nicknames, opened, patients, person_links, studies
from peer.index.database import Database, Tx
from peer.index.opened import Opened
from peer.index.reciprocity import note_asked
from peer.keys import NodeKeys
from peer.link import Links
from peer.partners import Partner
from peer.reciprocity import Reciprocity
from peer.search import listing, local, opening
from peer.search.answer import (
    Answer,
    Coverage,
    Facility,
    Question,
    RecordHint,
    Result,
    newest_first,
)
from peer.search.asking import Asked, Asking, Head
from peer.search.canary import Canary
from peer.search.found import LISTED, Found, Hit, find, holds, most_of_each
from peer.search.links import PersonLinks, Said
from peer.search.origin import Evaluator
from peer.search.pace import Pace
from peer.search.persons import grouped
from peer.search.shown import KnownPrior, Shown
from protocol.completeness import Look, Study
from protocol.errors import Refusal
from protocol.identifiers import EntryId, PeerId
from protocol.identify import person_hash
from protocol.limits import LEASE_MOST_S
from protocol.matching.keys import Demographics, query_keys, refusal_reason
from protocol.matching.score import score
from protocol.messages import Evaluate
from protocol.person_links import own_ref
from protocol.reciprocity import breaks_glass

SEARCH_ID_BYTES: Final = 16

NO_PARTNER: Final = "not-a-partner"


@dataclass(frozen=True, slots=True)
class _Home:
    """What this facility holds itself: its results, which of `listed` are here, and whom we know.

    `patient`: the one patient here who matches the question, None if there is none or several.
    """

    results: tuple[Result, ...]
    held: frozenset[str]
    patient: int | None


@dataclass(frozen=True, slots=True)
class _Known:
    """What the index knows of those a question may mean, before anybody is asked.

    `confirmed`: by their origins, or by a link made here.
    """

    opened: tuple[Opened, ...]
    confirmed: frozenset[tuple[PeerId, EntryId]]
    said: Said
    shares: Mapping[str, float]


class Search:
    """Searches all facilities, and answers theirs.

    `partners` returns the active partners and `coverage` how far each one's journal can be relied
    on.  Register `forget` with the gossip's withdrawals.
    """

    def __init__(  # noqa: PLR0913 - the rooms it works with, each by name
        self,
        db: Database,
        partners_db: Database,
        keys: NodeKeys,
        links: Links,
        clock: Clock,
        *,
        reciprocity: Reciprocity,
        person_links: PersonLinks,
        settings: Settings,
        partners: Callable[[], Iterable[Partner]],
        coverage: Callable[[], Mapping[PeerId, Head]],
    ) -> None:
        self._db = db
        self._partners_db = partners_db
        self._pseudonym_key = keys.pseudonym_key
        self._clock = clock
        self._here = Facility(keys.peer_id, settings.facility.name)
        self._partners = partners
        self._coverage = coverage
        self._canary = Canary(db, partners_db, clock, settings.audit.fault_s)
        self._pace = Pace(db, clock, settings.search.per_hour)
        self._asking = Asking(links, reciprocity, settings.search.deadline_s)
        self._nicknames = nicknames.load()
        self._person_links = person_links
        self._max_hints = settings.search.max_hints
        self._shown = Shown(clock, settings.search)
        links.handle(Evaluate, Evaluator(db, keys, clock, reciprocity).evaluate)

    async def search(
        self,
        question: Question,
        actor: Actor,
        emergency: str = "",
        *,
        only: PeerId | None = None,
    ) -> Answer:
        """Return every study of the person at every facility that could be searched.

        `emergency`: why the glass is broken, for the purpose BTG and no other.  `only`: the one
        partner to be asked; to it the question looks like any other.  Raises Refusal
        "too-little" if neither birth date nor identifier narrows the question.
        """
        person = question.person
        if (reason := refusal_reason(person)) is not None:
            code, remedy = "too-little", "Add the birth date, or an identifier with its issuer."
            raise Refusal(code, reason, remedy)
        if emergency or breaks_glass(actor.purpose):
            now = self._clock.now()
            await self._db.write(lambda tx: glass_broken_here(tx, actor, emergency, "search", now))
        search_id = secrets.token_bytes(SEARCH_ID_BYTES)
        coverage = self._coverage()
        await self._forget_lapsed(coverage)
        asked = await self._asking.ask(
            [each for each in self._partners() if only in {None, each.peer_id}],
            coverage,
            query_keys(person, self._nicknames),
            search_id=search_id,
            clinician=known_as(actor, self._pseudonym_key),
            purpose=actor.purpose,
            over=await self._pace.take(actor),
        )
        asked = await self._canary.verified(asked)
        found, said = await self._find(person, asked)
        hits = found.hits
        home = await self._db.read(lambda tx: self._at_home(tx, person, hits, said))
        by_id = {each.partner.peer_id: each.partner.name for each in asked}
        asked_for = person_hash(person)
        ref = asked_for if home.patient is None else own_ref(self._here.peer_id, home.patient)
        somebody_else = said.excluded({asked_for, ref})
        listed = [*listing.of_partners(hits, by_id, home.held, said), *home.results]
        listed = newest_first([each for each in listed if each.ref not in somebody_else])
        # In a thread: it compares many names with each other.
        persons, results = await asyncio.to_thread(
            grouped, listed, self._nicknames, said.same, said.other
        )
        covered = Coverage(
            searched=(
                self._here,
                *(Facility(a.partner.peer_id, a.partner.name) for a in asked if not a.uncovered),
            ),
            not_searched=tuple(a.uncovered for a in asked if a.uncovered is not None),
        )
        hints = tuple(
            RecordHint(Facility(each.origin, by_id[each.origin]), each.entry_id)
            for each in most_of_each(found.hints, self._max_hints)
        )
        answer = Answer(search_id, persons, results, covered, hints, ref, said.links)
        event = _event(question, answer, actor, home.patient, found.dropped)
        await self._db.write(lambda tx: self._record(tx, hits, asked, event))
        self._shown.note(
            KnownPrior(hit.opened.origin, each.digest, hit.opened.person)
            for hit in hits
            for each in hit.studies
        )
        return answer

    async def prior(self, facility: PeerId, study_instance_uid: str) -> KnownPrior | None:
        """Return a partner's study that a search has listed, as it is published now.

        One that was withdrawn since, but may stand on a screen still, is returned as it was: its
        origin decides anyway, and says why.
        """
        published = await self._published(facility, study_instance_uid)
        return published or self._shown.get(facility, study_instance_uid)

    async def _published(self, facility: PeerId, study_instance_uid: str) -> KnownPrior | None:
        known = await self._db.read(lambda tx: opened.with_study(tx, facility, study_instance_uid))
        now = self._clock.now()

        def work(tx: Tx) -> KnownPrior | None:
            for each in known:
                for found in opening.open_studies(tx, each) if opening.is_live(tx, each) else ():
                    study = found.digest
                    if study.study_instance_uid == study_instance_uid and holds(study, now):
                        return KnownPrior(facility, study, each.person)
            return None

        return await self._partners_db.read(work)

    async def look(self, facility: PeerId, person: Demographics, actor: Actor) -> Look:
        """Return what a search of one partner for a person shows of their studies there.

        Copies that are held here show nothing.  Raises Refusal as `search` does.
        """
        name = person.names[0] if person.names else ""
        question = Question(name, person.birth_date, person.sex, person.identifiers)
        answer = await self.search(question, actor, only=facility)
        published = [
            Study(
                each.study_instance_uid,
                each.study_date,
                each.accession_number,
                frozenset(each.modalities),
            )
            for each in answer.results
            if each.facility.peer_id == facility
            and await self._published(facility, each.study_instance_uid)
        ]
        searched = {each.peer_id for each in answer.coverage.searched}
        reasons = (each.code for each in answer.coverage.not_searched)
        return Look(tuple(published), "" if facility in searched else next(reasons, NO_PARTNER))

    async def forget(self, facility: PeerId, entry_ids: Sequence[bytes]) -> None:
        """Forget the keys of patients whose entries were withdrawn."""

        def work(tx: Tx) -> int:
            person_links.forget(tx, facility, entry_ids)
            return opened.forget(tx, facility, entry_ids)

        if await self._db.write(work):
            # A long read may hold the log; what it still has is encrypted, and goes with the next.
            with contextlib.suppress(Conflict):
                await self._db.checkpoint_truncate()

    async def forget_partner(self, facility: PeerId) -> None:
        """Forget all that was opened of a partner that was removed."""
        self._shown.forget(facility)

        def work(tx: Tx) -> None:
            person_links.forget_origin(tx, facility)
            opened.forget_origin(tx, facility)

        await self._db.write(work)

    async def _forget_lapsed(self, coverage: Mapping[PeerId, Head]) -> None:
        """Forget what was opened of partners who have been silent for longer than any lease."""
        oldest = self._clock.now() - LEASE_MOST_S
        for facility, known in coverage.items():
            if known.last_confirmed_at is not None and known.last_confirmed_at < oldest:
                await self.forget_partner(facility)

    # -- partners' patients -----------------------------------------------------------------------

    async def _find(self, person: Demographics, asked: Sequence[Asked]) -> tuple[Found, Said]:
        """Return who fits, of what was opened now and before, who may, and what was said of it."""
        known = await self._db.read(lambda tx: self._known(tx, person))
        now = self._clock.now()
        found = await self._partners_db.read(
            lambda tx: find(
                tx,
                person,
                asked,
                known.opened,
                known.confirmed,
                self._nicknames,
                known.shares,
                now,
            )
        )
        for patient in found.gone:
            # The node stopped between erasing the entry and forgetting the key.
            await self.forget(patient.origin, (patient.entry_id,))
        return found, known.said

    def _known(self, tx: Tx, person: Demographics) -> _Known:
        asked_for, shares = person_hash(person), patients.name_shares(tx, person)
        before, confirmed = opened.like(tx, person), opened.confirmed(tx, asked_for)

        def fits(other: Demographics) -> bool:
            return score(person, other, self._nicknames, shares=shares).tier in LISTED

        theirs = [each.ref for each in before if fits(each.person)]
        ours = [row.patient for row in local.candidates(tx, person) if fits(local.person_of(row))]
        refs = (asked_for, *theirs, *(own_ref(self._here.peer_id, patient) for patient in ours))
        said = self._person_links.about(tx, refs)
        linked = [each for ref in said.joined if (each := opened.with_ref(tx, ref)) is not None]
        sure = {(each.origin, each.entry_id): each for each in (*confirmed, *linked)}
        every = {(each.origin, each.entry_id): each for each in before} | sure
        return _Known(tuple(every.values()), frozenset(sure), said, shares)

    # -- our own ----------------------------------------------------------------------------------

    def _at_home(self, tx: Tx, person: Demographics, hits: Sequence[Hit], said: Said) -> _Home:
        """Return our own results; a study retrieved from a partner counts if it is not listed."""
        listed = {each.digest.study_instance_uid for hit in hits for each in hit.studies}
        results: list[Result] = []
        matching: list[int] = []
        shares = patients.name_shares(tx, person)
        somebody_else = said.excluded({person_hash(person)})
        for row in local.candidates_and(tx, person, self._here.peer_id, said.joined):
            patient, ref = local.person_of(row), own_ref(self._here.peer_id, row.patient)
            fit = score(person, patient, self._nicknames, shares=shares)
            linked = ref in said.joined
            if ref in somebody_else or (fit.tier not in LISTED and not linked):
                continue
            if fit.tier == "match":
                matching.append(row.patient)
            results += [
                listing.own(study, self._facility(study.origin), patient, fit, ref, linked=linked)
                for study in studies.of_patient(tx, row.patient)
                if study.origin is None or study.study_instance_uid not in listed
            ]
        return _Home(
            results=tuple(results),
            held=frozenset(uid for uid in listed if studies.get(tx, uid) is not None),
            patient=matching[0] if len(matching) == 1 else None,
        )

    def _facility(self, peer_id: bytes | None) -> Facility:
        if peer_id is None:
            return self._here
        names = {bytes(each.peer_id): each.name for each in self._partners()}
        return Facility(PeerId(peer_id), names.get(peer_id, "a former partner"))

    # -- the record -------------------------------------------------------------------------------

    def _record(
        self, tx: Tx, hits: Sequence[Hit], asked: Sequence[Asked], event: AuditEvent
    ) -> None:
        now = self._clock.now()
        for each in asked:
            if each.code is not None:
                note_asked(tx, each.partner.peer_id, each.code, now)
        for hit in hits:
            uids = [each.digest.study_instance_uid for each in hit.studies]
            opened.remember(tx, hit.opened, uids, now)
        audit.append(tx, event, now)


def _event(
    question: Question, answer: Answer, actor: Actor, patient: int | None, dropped: int
) -> AuditEvent:
    return AuditEvent(
        action="search",
        outcome="success",
        actor=actor,
        patient="" if patient is None else str(patient),
        detail={
            "search_id": answer.search_id.hex(),
            "name": question.name,
            "birth_date": question.birth_date,
            "identifiers": " ".join(f"{one.value}@{one.issuer}" for one in question.identifiers),
            "results": len(answer.results),
            "hints": len(answer.hints),
            "dropped": dropped,
            "searched": len(answer.coverage.searched),
            "not_searched": len(answer.coverage.not_searched),
            "coverage": answer.coverage.sentence,
        },
    )
