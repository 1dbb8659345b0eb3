"""From what was found to what is listed: partners' studies, and what is held here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from peer.index import studies
from peer.index.database import Tx
from peer.index.studies import StudyRow
from peer.search import local
from peer.search.answer import Facility, Result
from peer.search.found import LISTED, Hit
from peer.search.links import Said
from protocol.identifiers import PeerId
from protocol.identify import person_hash
from protocol.matching.keys import Demographics
from protocol.matching.nicknames import NicknameTable
from protocol.matching.score import Score, score
from protocol.person_links import own_ref


@dataclass(frozen=True, slots=True)
class Home:
    """What is held here of whoever fits: our own studies, and copies of partners'.

    `patient`: the one patient here who matches the question, None if there is none or several.
    """

    results: tuple[Result, ...]
    patient: int | None

    def beside(self, listed: Iterable[Result]) -> list[Result]:
        """Return what partners do not list themselves: a copy stands for what cannot be listed."""
        uids = {each.study_instance_uid for each in listed}
        return [each for each in self.results if each.local or each.study_instance_uid not in uids]


def at_home(
    tx: Tx,
    person: Demographics,
    me: PeerId,
    nicknames: NicknameTable,
    shares: Mapping[str, float],
    said: Said,
    facility_of: Callable[[bytes | None], Facility],
) -> Home:
    """Return what is held here, matched by the same rules as what partners hold."""
    results: list[Result] = []
    matching: list[int] = []
    somebody_else = said.excluded({person_hash(person)})
    for row in local.candidates_and(tx, person, me, said.joined):
        patient, ref = local.person_of(row), own_ref(me, row.patient)
        fit = score(person, patient, nicknames, shares=shares)
        linked = ref in said.joined
        if ref in somebody_else or (fit.tier not in LISTED and not linked):
            continue
        if fit.tier == "match":
            matching.append(row.patient)
        results += [
            _own(study, facility_of(study.origin), patient, fit, ref, linked=linked)
            for study in studies.of_patient(tx, row.patient)
        ]
    return Home(tuple(results), matching[0] if len(matching) == 1 else None)


def _own(
    study: StudyRow,
    facility: Facility,
    patient: Demographics,
    fit: Score,
    ref: bytes,
    *,
    linked: bool,
) -> Result:
    return Result(
        facility=facility,
        local=study.origin is None,
        held_here=True,
        study_instance_uid=study.study_instance_uid,
        study_date=study.study_date,
        study_time=study.study_time,
        modalities=study.modalities,
        body_parts=study.body_parts,
        description=study.description,
        accession_number=study.accession_number,
        series=study.series,
        instances=study.instances,
        size=study.stored_bytes,
        patient=patient,
        score=fit,
        ref=ref,
        linked=linked,
    )


def at_partner(tx: Tx, facility: Facility, hits: Iterable[Hit], said: Said) -> list[Result]:
    """Return a partner's studies; one that two patient keys open is listed once.

    `tx`: the index, which knows what of them is held here.
    """
    results: dict[str, Result] = {}
    for hit in sorted(hits, key=lambda one: one.score.bits):
        ref = hit.opened.ref
        linked = ref in said.joined
        for found in hit.studies:
            study = found.digest
            results[study.study_instance_uid] = Result(
                facility=facility,
                local=False,
                held_here=studies.get(tx, study.study_instance_uid) is not None,
                study_instance_uid=study.study_instance_uid,
                study_date=study.study_date,
                study_time=study.study_time,
                modalities=study.modalities,
                body_parts=study.body_parts,
                description=study.description,
                accession_number=study.accession_number,
                series=study.series,
                instances=study.instances,
                size=study.size,
                patient=hit.opened.person,
                score=hit.score,
                ref=ref,
                confirmed=hit.confirmed and not linked,
                linked=linked,
            )
    return list(results.values())
