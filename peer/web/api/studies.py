"""The studies that this facility holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from aiohttp import web

from peer import audit
from peer.audit import AuditEvent
from peer.errors import NotFound
from peer.index import Tx, patients, studies
from peer.index.patients import PatientRow
from peer.index.studies import StudyRow
from peer.web.api.bodies import Body, Text, Uid, answer, body, path
from peer.web.identity import actor
from peer.web.routes import CLINICIAN, PRIVACY_OFFICER, Route, services


class StudyPath(Body):
    """One study."""

    study_instance_uid: Uid


class PurgeBody(Body):
    """Why a study whose retention lock still holds is purged all the same; empty: it is not."""

    release_reason: Text = ""


class HoldBody(Body):
    """Whether the study is sensitive and stays here, whatever the directives say; and why."""

    held_back: bool
    reason: Text = ""


async def list_studies(request: web.Request) -> web.StreamResponse:
    """Return the studies held, the newest first."""
    most = services(request).settings.lists.studies

    def work(tx: Tx) -> list[dict[str, object]]:
        known: dict[int, PatientRow | None] = {}
        found = []
        for study in studies.list_studies(tx, most):
            if study.patient not in known:
                known[study.patient] = patients.get(tx, study.patient)
            found.append(study_json(study, known[study.patient]))
        return found

    return answer({"studies": await services(request).db.read(work)})


def study_json(study: StudyRow, patient: PatientRow | None) -> dict[str, object]:
    """Return what is known of a study and whose it is."""
    return {
        "study_instance_uid": study.study_instance_uid,
        "study_date": study.study_date,
        "study_time": study.study_time,
        "modalities": study.modalities,
        "body_parts": study.body_parts,
        "description": study.description,
        "accession_number": study.accession_number,
        "series": study.series,
        "instances": study.instances,
        "bytes": study.stored_bytes,
        "origin": study.origin,
        "received_at": study.received_at,
        "settled_at": study.settled_at,
        "held_back": study.held_back,
        "patient": patient_json(patient),
    }


def patient_json(patient: PatientRow | None) -> dict[str, object] | None:
    """Return who a patient is."""
    if patient is None:
        return None
    return {
        "issuer": patient.issuer,
        "patient_id": patient.patient_id,
        "name": patient.names[0] if patient.names else "",
        "birth_date": patient.birth_date,
        "sex": patient.sex,
        "identifiers": [{"issuer": i.issuer, "value": i.value} for i in patient.identifiers],
    }


async def purge(request: web.Request) -> web.StreamResponse:
    """Destroy a study whose retention lock has ended; a study of partners' at any time."""
    asked = path(request, StudyPath)
    wanted = await body(request, PurgeBody)
    await services(request).retention.purge(
        asked.study_instance_uid, actor(request), wanted.release_reason
    )
    return answer({"study_instance_uid": asked.study_instance_uid, "purged": True})


async def hold(request: web.Request) -> web.StreamResponse:
    """Hold a study back from every partner, or release it."""
    asked = path(request, StudyPath)
    wanted = await body(request, HoldBody)
    uid = asked.study_instance_uid
    await hold_back(request, uid, held_back=wanted.held_back, reason=wanted.reason)
    return answer({"study_instance_uid": uid, "held_back": wanted.held_back})


async def hold_back(request: web.Request, uid: str, *, held_back: bool, reason: str) -> None:
    """Hold a study back, or release it, in the asker's name; raise NotFound."""
    rooms = services(request)
    event = AuditEvent(
        action="hold",
        outcome="success",
        actor=actor(request),
        study_instance_uid=uid,
        detail={"held_back": int(held_back), "reason": reason},
    )

    def work(tx: Tx) -> None:
        study = studies.get(tx, uid)
        if study is None:
            raise NotFound("There is no such study here. List the studies to find it.")
        studies.hold(tx, uid, held_back=held_back, reason=reason)
        rooms.publish.apply_in(tx, study.patient)
        audit.append(tx, replace(event, patient=str(study.patient)), rooms.clock.now())

    await rooms.db.write(work)
    await rooms.publish.study_changed(uid)


ROUTES: Final = (
    Route("GET", "/api/v1/studies", list_studies, CLINICIAN | PRIVACY_OFFICER),
    Route("DELETE", "/api/v1/studies/{study_instance_uid}", purge, PRIVACY_OFFICER),
    Route("POST", "/api/v1/studies/{study_instance_uid}/hold", hold, PRIVACY_OFFICER),
)
