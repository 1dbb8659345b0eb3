"""The audit trail: proven whole, exported, and read for one patient."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from peer.audit import AuditEvent
from peer.errors import NotFound
from peer.index import Tx, patients, studies
from peer.web.api.bodies import Body, Instant, Label, answer, query
from peer.web.identity import actor
from peer.web.routes import AUDITOR, PRIVACY_OFFICER, Route, services


class ExportQuery(Body):
    """From `since` on, before `until`."""

    since: Instant | None = None
    until: Instant | None = None


class DisclosuresQuery(Body):
    """The patient, and from when on."""

    issuer: Label = ""
    patient_id: Label
    since: Instant = 0


async def verify(request: web.Request) -> web.StreamResponse:
    """Return whether every record is there and as it was written."""
    trail = services(request).audit
    found = await trail.verify()
    outcome = "success" if found.ok else "failed"
    await trail.record(AuditEvent("verify", outcome, actor(request)))
    return answer(
        {
            "ok": found.ok,
            "records": found.records,
            "first_broken": found.first_broken,
            "reason": found.reason,
        }
    )


async def export(request: web.Request) -> web.StreamResponse:
    """Stream the records as JSON lines."""
    asked = query(request, ExportQuery)
    await services(request).audit.record(AuditEvent("export", "success", actor(request)))
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    async for line in services(request).audit.export(asked.since, asked.until):
        await response.write(line.encode() + b"\n")
    await response.write_eof()
    return response


async def disclosures(request: web.Request) -> web.StreamResponse:
    """Account for what of a patient went to whom, when and why (45 CFR 164.528)."""
    asked = query(request, DisclosuresQuery)
    rooms = services(request)

    def work(tx: Tx) -> tuple[tuple[str, ...], tuple[str, ...]]:
        patient = patients.find(tx, asked.issuer, asked.patient_id)
        if patient is None:
            raise NotFound("There is no patient with this identifier. Check the issuer too.")
        found = studies.of_patient(tx, patient.patient)
        merged = patients.merged_into(tx, patient.patient)
        numbers = tuple(str(each.patient) for each in (patient, *merged))
        return numbers, tuple(study.study_instance_uid for study in found)

    numbers, uids = await rooms.db.read(work)
    event = AuditEvent("disclosures", "success", actor(request), patient=numbers[0])
    await rooms.audit.record(event)
    found = await rooms.audit.disclosures(numbers, uids, asked.since)
    names = {partner.peer_id.hex(): partner.name for partner in rooms.partners.all()}
    return answer(
        {
            "disclosures": [
                {
                    "at": each.at,
                    "recipient": names.get(each.recipient, each.recipient),
                    "what": each.what,
                    "purpose": each.purpose,
                    "actor": each.actor,
                    "study_instance_uid": each.study_instance_uid,
                }
                for each in found
            ]
        }
    )


ROUTES: Final = (
    Route("GET", "/api/v1/audit/verify", verify, AUDITOR | PRIVACY_OFFICER),
    Route("GET", "/api/v1/audit/export", export, AUDITOR | PRIVACY_OFFICER),
    Route("GET", "/api/v1/audit/disclosures", disclosures, PRIVACY_OFFICER),
)
