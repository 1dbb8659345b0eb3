"""The room: looks the evidence up and puts the report on record."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from peer import audit
from peer.access import EVERY_PARTNER
from peer.actors import Actor
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.config import Report as Settings
from peer.errors import NotFound
from peer.index import Database, Tx, consents, final_reports, grants, packs, patients, studies
from peer.index.final_reports import FinalReport
from peer.index.grants import GrantRow
from peer.index.report import SearchMade, publications_of, searches_between
from peer.index.studies import StudyRow
from peer.partners import Partner, Partners
from peer.report import claims
from peer.report.available import Lock, data_availability
from peer.report.days import DAY_S, performed_before, said_day
from peer.report.searched import data_search
from peer.report.section import OnRecord, Section
from protocol.grant import VERIFIED, ReceiptBody
from protocol.identifiers import PeerId
from protocol.limits import STATEMENT_BYTES
from protocol.records import from_bytes

Locks: TypeAlias = Callable[[str], Awaitable[Lock]]
"""`Retention.check`."""

Acknowledged: TypeAlias = Callable[[int], Awaitable[Mapping[PeerId, int | None]]]
"""`Gossip.acknowledged`: since when each partner has applied our journal up to a seq."""


class Report:
    """Says of a study what the record supports."""

    def __init__(
        self,
        *,
        db: Database,
        me: PeerId,
        partners: Partners,
        clock: Clock,
        lock: Locks,
        acknowledged: Acknowledged,
        settings: Settings,
    ) -> None:
        self._db = db
        self._me = me
        self._partners = partners
        self._clock = clock
        self._lock = lock
        self._acknowledged = acknowledged
        self._search_days = settings.search_days

    async def sentence(
        self, study_instance_uid: str, actor: Actor | None = None
    ) -> dict[str, object]:
        """Return both sections as the API shows them; with `actor` this is put on record.

        Raises NotFound.
        """
        found = await self._db.read(lambda tx: self._look_up(tx, study_instance_uid))
        available = data_availability(
            found,
            await self._lock(study_instance_uid),
            await self._holders(found),
            [said for row in found.grants if (said := self._fetch(row))],
            self._clock.now(),
        )
        searched = data_search(
            found, days=self._search_days, has_partners=bool(self._partners.active())
        )
        if actor is not None:
            await self._record(found.study, actor, available, searched)
        return {
            "study_instance_uid": study_instance_uid,
            "data_availability": available.to_json(),
            "data_search": searched.to_json(),
            "final_report": claims.to_json(found.final, available, searched),
        }

    def _look_up(self, tx: Tx, uid: str) -> OnRecord:
        study = studies.get(tx, uid)
        if study is None:
            raise NotFound("There is no such study here.")
        performed = performed_before(study)
        searches: Sequence[SearchMade] = ()
        if performed is not None:
            # Later ones are looked at too: they explain why the answer is no.
            first = performed - self._search_days * DAY_S
            searches = searches_between(tx, first, self._clock.now() + 1)
        return OnRecord(
            study=study,
            patient=patients.get(tx, study.patient),
            packs=len(packs.of_study(tx, uid)),
            directives=consents.for_patient(tx, study.patient),
            publications=tuple(publications_of(tx, self._me, uid)),
            grants=grants.grants_of(tx, uid),
            searches=tuple(searches),
            final=self._final(tx, study),
        )

    def _final(self, tx: Tx, study: StudyRow) -> FinalReport | None:
        patient = patients.get(tx, study.patient)
        known = (*patients.known_as(tx, study.patient), *(patient.identifiers if patient else ()))
        return final_reports.of_study(tx, study.study_instance_uid, study.accession_number, known)

    async def _holders(self, found: OnRecord) -> list[tuple[Partner, int]]:
        """Return the partners that are able to find the study, each with since when."""
        since: dict[PeerId, int] = {}
        for publication in found.publications:
            for peer_id, at in (await self._acknowledged(publication.seq)).items():
                meant = publication.audience in (EVERY_PARTNER, bytes(peer_id))
                if meant and at is not None:
                    since[peer_id] = min(at, since.get(peer_id, at))
        active = self._partners.active()
        return [(each, since[each.peer_id]) for each in active if each.peer_id in since]

    def _fetch(self, row: GrantRow) -> str:
        if row.receipt is None:
            return ""
        receipt = from_bytes(ReceiptBody, row.receipt.payload, STATEMENT_BYTES)
        if receipt.outcome != VERIFIED:
            return ""
        name = self._partners.name(row.partner)
        return f"{name} fetched it on {said_day(receipt.issued_at)}: {receipt.sentence()}."

    async def _record(
        self, study: StudyRow, actor: Actor, available: Section, searched: Section
    ) -> None:
        event = AuditEvent(
            action="report",
            outcome="success",
            actor=actor,
            patient=str(study.patient),
            study_instance_uid=study.study_instance_uid,
            detail={"data_availability": available.code, "data_search": searched.code},
        )
        await self._db.write(lambda tx: audit.append(tx, event, self._clock.now()))
