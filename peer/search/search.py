"""One question, every facility, one list."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from peer import audit
from peer.actors import Actor, known_as
from peer.alerts import glass_broken_here
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.config import Settings
from peer.errors import Conflict
from peer.index import nicknames, opened, person_links
from peer.index.database import Database, Tx
from peer.index.reciprocity import note_asked
from peer.keys import NodeKeys
from peer.link import Links
from peer.partners import Partner
from peer.reciprocity import Reciprocity
from peer.search import opening
from peer.search.answer import (
    Answer,
    Coverage,
    Facility,
    Heard,
    Question,
    RecordHint,
)
from peer.search.asked import Asked
from peer.search.asking import Asking, Head
from peer.search.canary import Canary
from peer.search.delegations import Delegations
from peer.search.found import Found, find, holds, most_of_each
from peer.search.known import Known, known_of
from peer.search.links import PersonLinks
from peer.search.listing import at_partner
from peer.search.new_priors import NewPriors
from peer.search.origin import Evaluator
from peer.search.pace import Pace
from peer.search.persons import grouped, told_apart
from peer.search.recorded import described_as, must_have_purpose, record_of
from peer.search.shown import KnownPrior, Shown
from protocol.completeness import Look, Study
from protocol.errors import Refusal
from protocol.identifiers import PeerId
from protocol.limits import LEASE_MOST_S
from protocol.matching.keys import Demographics, query_keys
from protocol.messages import Evaluate
from protocol.person_links import facility_of
from protocol.reciprocity import breaks_glass

SEARCH_ID_BYTES: Final = 16

NO_PARTNER: Final = "not-a-partner"


Hear: TypeAlias = Callable[[Heard], Awaitable[None]]
"""Is told what each facility has while others are still being asked."""


@dataclass(frozen=True, slots=True)
class _Answered:
    """What came of asking one partner."""

    asked: Asked
    found: Found
    heard: Heard


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
        delegations: Delegations,
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
        canary = Canary(db, partners_db, clock, settings.audit.fault_s)
        self._pace = Pace(db, clock, settings.search.per_hour)
        self._asking = Asking(links, reciprocity, delegations, canary, settings.search.deadline_s)
        self._nicknames = nicknames.load()
        self._person_links = person_links
        self._max_hints = settings.search.max_hints
        self._shown = Shown(clock, settings.search)
        self.new_priors = NewPriors(
            db,
            partners_db,
            keys,
            clock,
            settings.search,
            partners=partners,
            coverage=coverage,
        )
        links.handle(Evaluate, Evaluator(db, keys, clock, reciprocity).evaluate)

    async def search(
        self,
        question: Question,
        actor: Actor,
        emergency: str = "",
        *,
        only: PeerId | None = None,
        hear: Hear | None = None,
    ) -> Answer:
        """Return every study of the person at every facility that could be searched.

        `emergency`: why the glass is broken, for the purpose BTG and no other.  `only`: the one
        partner to be asked; to it the question looks like any other.  `hear`: is told what each
        facility has as it comes, this one first.  Cancelled, it asks nobody any further, and what
        was asked is on record.  Raises Refusal "too-little" if neither birth date nor identifier
        narrows the question.
        """
        person, search_id = question.person, secrets.token_bytes(SEARCH_ID_BYTES)
        described = described_as(question, search_id)
        await self._admit(question, actor, emergency, described)
        coverage = dict(self._coverage())
        await self._forget_lapsed(coverage)
        partners = [each for each in self._partners() if only in {None, each.peer_id}]
        known = await self._db.read(
            lambda tx: known_of(
                tx, person, self._here.peer_id, self._nicknames, self._person_links, self._facility
            )
        )
        if hear is not None:
            own = known.admitted(known.home.results)
            await hear(Heard.of(self._here, own, waiting=len(partners)))
        answered: list[_Answered] = []
        asking = self._asking.ask(
            partners,
            coverage,
            query_keys(person, self._nicknames),
            search_id=search_id,
            clinician=known_as(actor, self._pseudonym_key),
            purpose=actor.purpose,
            over=await self._pace.take(actor),
        )
        try:
            async with contextlib.aclosing(asking) as answers:
                async for asked in answers:
                    waiting = len(partners) - len(answered) - 1
                    answered.append(await self._answered(person, asked, known, waiting))
                    if hear is not None:
                        await hear(answered[-1].heard)
        except BaseException:
            event = AuditEvent("search", "failed", actor, detail=described | {"abandoned": 1})
            seen = {each.ref for one in answered for each in one.heard.results}
            await asyncio.shield(self._db.write(lambda tx: self._record(tx, answered, seen, event)))
            self.new_priors.searched(coverage)
            raise
        order = {each.peer_id: place for place, each in enumerate(partners)}
        answered.sort(key=lambda one: order[one.asked.partner.peer_id])
        answer = await self._put_together(search_id, known, answered)
        dropped = sum(one.found.dropped for one in answered)
        described["delegated"] = sum(one.asked.delegated for one in answered)
        event = record_of(answer, actor, known.home.patient, dropped, described)
        sure = {each.ref for each in answer.results}
        await self._db.write(lambda tx: self._record(tx, answered, sure, event))
        self.new_priors.searched(coverage)
        self._shown.note(
            KnownPrior(hit.opened.origin, each.digest, hit.opened.person)
            for one in answered
            for hit in one.found.hits
            for each in hit.studies
            if hit.opened.ref in sure
        )
        return answer

    async def _admit(
        self,
        question: Question,
        actor: Actor,
        emergency: str,
        described: Mapping[str, str | int],
    ) -> None:
        """Let a question pass, or raise a Refusal that is on record."""
        now = self._clock.now()
        try:
            question.must_narrow()
            must_have_purpose(actor)
            if emergency or breaks_glass(actor.purpose):
                await self._db.write(
                    lambda tx: glass_broken_here(tx, actor, emergency, "search", now)
                )
        except Refusal as refusal:
            said = {"code": refusal.code, "reason": refusal.reason}
            event = AuditEvent("search", "refused", actor, detail={**described, **said})
            await self._db.write(lambda tx: audit.append(tx, event, now))
            raise

    async def _put_together(
        self, search_id: bytes, known: Known, answered: Sequence[_Answered]
    ) -> Answer:
        theirs = [each for one in answered for each in (*one.heard.results, *one.heard.doubtful)]
        listed = known.admitted([*theirs, *known.home.beside(theirs)])
        said = known.said
        # In a thread: it compares many names with each other.
        persons, results = await asyncio.to_thread(
            grouped, listed, self._nicknames, [*said.same, *known.merged], said.other
        )
        uncovered = [one.heard.uncovered for one in answered]
        searched = [one.heard.facility for one in answered if one.heard.uncovered is None]
        covered = Coverage(
            searched=(self._here, *searched),
            not_searched=tuple(each for each in uncovered if each is not None),
        )
        persons, sure, doubtful = told_apart(persons, results)
        return Answer(
            search_id=search_id,
            persons=persons,
            results=sure,
            coverage=covered,
            hints=tuple(each for one in answered for each in one.heard.hints),
            ref=known.ref,
            links=said.links,
            doubtful=doubtful,
        )

    async def has_room(self, actor: Actor) -> bool:
        """Return whether `actor` may search for what can wait: less than half the hour is used."""
        return await self._pace.has_room(actor)

    async def prior(self, facility: PeerId, study_instance_uid: str) -> KnownPrior | None:
        """Return a partner's study that a search has listed, as it is published now.

        One that was withdrawn since, but may stand on a screen still, is returned as it was: its
        origin decides anyway, and says why.
        """
        published = await self._published(facility, study_instance_uid)
        return published or self._shown.get(facility, study_instance_uid)

    async def holders(self, study_instance_uid: str) -> list[KnownPrior]:
        """Return a study as each partner has it at whom a search has listed it."""
        known = [await self.prior(each.peer_id, study_instance_uid) for each in self._partners()]
        return [each for each in known if each is not None]

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
            for each in (*answer.results, *answer.doubtful)
            if facility_of(each.ref) == facility
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

    async def _answered(
        self, person: Demographics, asked: Asked, known: Known, waiting: int
    ) -> _Answered:
        """Return who fits, of what a partner's answer opens and was opened before, and who may."""
        now = self._clock.now()
        found = await self._partners_db.read(
            lambda tx: find(
                tx,
                person,
                [asked],
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
        facility = asked.facility
        results = (
            await self._db.read(lambda tx: at_partner(tx, facility, found.hits, known.said))
            if found.hits
            else ()
        )
        hints = tuple(
            RecordHint(facility, each.entry_id)
            for each in most_of_each(found.hints, self._max_hints)
        )
        admitted = known.admitted(results)
        heard = Heard.of(facility, admitted, hints, asked.uncovered, waiting=waiting)
        return _Answered(asked, found, heard)

    def _facility(self, peer_id: bytes | None) -> Facility:
        if peer_id is None:
            return self._here
        names = {bytes(each.peer_id): each.name for each in self._partners()}
        return Facility(PeerId(peer_id), names.get(peer_id, "a former partner"))

    # -- the record -------------------------------------------------------------------------------

    def _record(
        self, tx: Tx, answered: Sequence[_Answered], sure: Collection[bytes], event: AuditEvent
    ) -> None:
        """Remember who was opened; whose studies can be retrieved: of the `sure` refs alone."""
        now = self._clock.now()
        for one in answered:
            if one.asked.code is not None:
                note_asked(tx, one.asked.partner.peer_id, one.asked.code, now)
            for hit in one.found.hits:
                studies = hit.studies if hit.opened.ref in sure else ()
                uids = [each.digest.study_instance_uid for each in studies]
                new = opened.not_listed(tx, hit.opened, uids)
                number = opened.remember(tx, hit.opened, uids, now)
                if hit.opened.ref in sure and event.actor is not None:
                    self.new_priors.watch(tx, number, event.actor, new)
        audit.append(tx, event, now)
