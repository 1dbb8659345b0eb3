"""From what was found to what is listed: one result for each study, wherever it was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from peer.index.studies import StudyRow
from peer.search.answer import Facility, Result
from peer.search.found import Hit
from peer.search.links import Said
from protocol.identifiers import PeerId
from protocol.matching.keys import Demographics
from protocol.matching.score import Score


def of_partners(
    hits: Sequence[Hit], names: Mapping[PeerId, str], held: frozenset[str], said: Said
) -> list[Result]:
    """Return the partners' results; a study that two patient keys open is listed once."""
    results: dict[tuple[PeerId, str], Result] = {}
    for hit in sorted(hits, key=lambda one: one.score.bits):
        origin_id = hit.opened.origin
        facility = Facility(origin_id, names[origin_id])
        ref = hit.opened.ref
        linked = ref in said.joined
        for found in hit.studies:
            study = found.digest
            results[origin_id, study.study_instance_uid] = Result(
                facility=facility,
                local=False,
                held_here=study.study_instance_uid in held,
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


def own(
    study: StudyRow,
    facility: Facility,
    patient: Demographics,
    fit: Score,
    ref: bytes,
    *,
    linked: bool,
) -> Result:
    """Return a study that is held here; `facility`: whose it is."""
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
