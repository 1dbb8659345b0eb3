"""What should be published of a patient, by consent, scope and the state of the studies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from peer.access import facts, offered
from peer.index import consents, deferrals, nicknames, patients, publications, studies
from peer.index.database import Tx
from peer.index.patients import PatientRow
from peer.index.studies import StudyRow
from peer.partners import Partner
from peer.publish.difference import NO_HANDLE, Wanted
from protocol import consent
from protocol.consent import Directive, Request, StudyFacts
from protocol.digest import PatientCard, StudyDigest
from protocol.evaluation import EVERYONE
from protocol.matching.keys import Demographics, index_keys

ONLINE = "ONLINE"
"""Instance Availability (PS3.3 section C.4.23.1.1): the node holds the instances itself."""


@dataclass(slots=True)
class _Found:
    grounds: set[str] = field(default_factory=set)
    studies: dict[str, StudyDigest | None] = field(default_factory=dict)


def wanted(
    tx: Tx, patient: int, partners: Sequence[Partner], now: int, without: str = ""
) -> dict[bytes, Wanted]:
    """Return what each audience should find of a patient now, and schedule the next look.

    Only our own studies count: what came from a partner is that partner's to publish.  `without`:
    Study Instance UID of a study that is about to go.
    """
    row = patients.get(tx, patient)
    directives = consents.for_patient(tx, patient)
    own = [
        study
        for study in studies.of_patient(tx, patient)
        if study.origin is None
        and study.manifest_root is not None
        and study.study_instance_uid != without
    ]
    due_at = consent.earliest_change(directives, now, map(facts, own))
    publications.schedule(tx, patient, due_at)
    held = any(deferrals.is_held(tx, each) for each in patients.known_as(tx, patient))
    if row is None or held:
        return {}
    keys = index_keys(_demographics(row), nicknames.load())
    if not keys:
        return {}
    return {
        audience: Wanted(
            card=_card(row, min(found.grounds)),
            match_keys=keys,
            grounds=tuple(bytes.fromhex(each) for each in sorted(found.grounds)),
            studies=found.studies,
        )
        for audience, found in _by_audience(own, directives, partners, now).items()
    }


def _by_audience(
    own: Sequence[StudyRow], directives: Sequence[Directive], partners: Sequence[Partner], now: int
) -> dict[bytes, _Found]:
    found: dict[bytes, _Found] = {}
    for study in sorted(own, key=lambda one: (one.study_date, one.study_instance_uid)):
        for audience in _audiences(facts(study), directives, partners, now):
            recipient = audience.hex() if audience else consent.EVERYONE
            request = Request(recipient, None, now)
            decision = consent.decide(directives, facts(study), request)
            entry = found.setdefault(audience, _Found())
            entry.grounds.add(decision.directive_id or "")
            settled = study.settled_at is not None
            digest = _digest(study, decision.expires_at) if settled else None
            entry.studies[study.study_instance_uid] = digest
    return found


def _audiences(
    study: StudyFacts, directives: Sequence[Directive], partners: Sequence[Partner], now: int
) -> Iterator[bytes]:
    """Yield EVERYONE, or else each single partner that may find the study."""
    names = [partner.peer_id.hex() for partner in partners]
    audience = consent.audience(directives, study, names, now)
    offers = [partner for partner in partners if offered(partner.our_terms, study)]
    if audience.all_partners and len(offers) == len(partners):
        yield EVERYONE
        return
    for partner in offers:
        if audience.all_partners or partner.peer_id.hex() in audience.partners:
            yield bytes(partner.peer_id)


def _demographics(row: PatientRow) -> Demographics:
    return Demographics(row.names, row.birth_date, row.sex, row.identifiers)


def _card(row: PatientRow, ground: str) -> PatientCard:
    return PatientCard(
        names=row.names,
        birth_date=row.birth_date,
        sex=row.sex,
        identifiers=row.identifiers,
        consent=bytes.fromhex(ground),
        highest_position=0,
    )


def _digest(study: StudyRow, expires_at: int | None) -> StudyDigest:
    return StudyDigest(
        study_instance_uid=study.study_instance_uid,
        study_date=study.study_date,
        study_time=study.study_time,
        modalities=study.modalities,
        body_parts=study.body_parts,
        description=study.description,
        accession_number=study.accession_number,
        accession_issuer=study.accession_issuer,
        series=study.series,
        instances=study.instances,
        size=study.stored_bytes,
        availability=ONLINE,
        retrieve_handle=NO_HANDLE,
        manifest_root=study.manifest_root or b"",
        manifest_version=study.manifest_version,
        expires_at=expires_at,
    )
