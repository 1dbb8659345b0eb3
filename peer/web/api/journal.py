"""Our own journal: how it stands, what it waits for, and the patients who are held."""

from __future__ import annotations

from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import Field

from peer import audit
from peer.audit import AuditEvent
from peer.errors import NotFound
from peer.index import Tx, deferrals, patients
from peer.web.api.bodies import Body, answer, body
from peer.web.api.consents import Patient
from peer.web.identity import actor
from peer.web.routes import ANYONE, OPERATOR, PRIVACY_OFFICER, Route, services
from peer.web.services import Services
from protocol.epochs import EpochRecord, SignedEpoch
from protocol.identifiers import PatientIdentifier
from protocol.limits import EPOCH_RECORD_BYTES
from protocol.messages import OriginHead


class EpochBody(Body):
    """A record signed by the root key; `now`: without waiting for partners that may answer."""

    record: Annotated[str, Field(pattern=f"^([0-9a-f]{{2}}){{1,{EPOCH_RECORD_BYTES}}}$")]
    signature: Annotated[str, Field(pattern="^[0-9a-f]{128}$")]
    now: bool = False


class ReleaseBody(Body):
    """The patient to be published again as the directives on record say."""

    patient: Patient


async def show(request: web.Request) -> web.StreamResponse:
    """Return how our journal stands and which partners have said what they hold of it."""
    return answer(await journal_json(services(request)))


async def begin_epoch(request: web.Request) -> web.StreamResponse:
    """Go on in a new epoch of our journal, by the word of the root key."""
    asked, rooms = await body(request, EpochBody), services(request)
    signed = SignedEpoch(bytes.fromhex(asked.record), bytes.fromhex(asked.signature))
    record = await rooms.recovery.begin_epoch(signed, actor(request), wait=not asked.now)
    return answer({"epoch": record.epoch, "first_batch": record.first_batch})


async def list_holds(request: web.Request) -> web.StreamResponse:
    """Return the patients of whom nothing is published until somebody has looked."""
    held = await services(request).db.read(deferrals.holds)
    return answer(
        {
            "holds": [
                {
                    "patient": {"issuer": each.patient.issuer, "patient_id": each.patient.value},
                    "reason": each.reason,
                    "since": each.since,
                }
                for each in held
            ]
        }
    )


async def release(request: web.Request) -> web.StreamResponse:
    """Publish a held patient again, as the directives on record permit."""
    asked, rooms, who = await body(request, ReleaseBody), services(request), actor(request)
    patient = PatientIdentifier(asked.patient.issuer, asked.patient.patient_id)
    now = rooms.clock.now()

    def work(tx: Tx) -> None:
        if not deferrals.release(tx, patient):
            raise NotFound("This patient is not held; list those who are to see them.")
        row = patients.find(tx, patient.issuer, patient.value)
        known = "" if row is None else str(row.patient)
        event = AuditEvent("hold", "success", who, patient=known, detail={"held_back": 0})
        audit.append(tx, event, now)
        if row is not None:
            rooms.publish.apply_in(tx, row.patient)

    await rooms.db.write(work)
    await rooms.publish.written()
    return answer({"released": True})


async def journal_json(rooms: Services) -> dict[str, Any]:
    """Return the state of our journal, ready to be written as JSON."""
    state = await rooms.recovery.state()
    held = await rooms.db.read(deferrals.holds)
    head, fence = state.head, state.fence
    return {
        "epoch": 0 if head is None else head.epoch,
        "batch": 0 if head is None else head.batch,
        "seq": 0 if head is None else head.last_seq,
        "live": 0 if head is None else head.live_count,
        "state": state.state,
        "since": state.since,
        "epoch_due_at": state.epoch_due_at,
        "next_epoch": None if state.next_epoch is None else _epoch_json(state.next_epoch),
        "fence": None if fence is None else {"epoch": fence.epoch, "batch": fence.batch},
        "partners": [
            {
                "peer_id": partner.peer_id,
                "name": partner.name,
                "answered": partner.peer_id not in state.unheard,
                "holds": _claim_json(state.answers.get(partner.peer_id)),
                "lacking": partner.peer_id in state.lacking,
            }
            for partner in rooms.partners.active()
        ],
        "held_patients": len(held),
    }


def _epoch_json(record: EpochRecord) -> dict[str, object]:
    return {
        "epoch": record.epoch,
        "first_batch": record.first_batch,
        "previous": record.previous,
    }


def _claim_json(claim: OriginHead | None) -> dict[str, int] | None:
    return None if claim is None else {"epoch": claim.epoch, "batch": claim.batch}


ROUTES: Final = (
    Route("GET", "/api/v1/journal", show, ANYONE),
    Route("POST", "/api/v1/journal/epoch", begin_epoch, OPERATOR),
    Route("GET", "/api/v1/journal/holds", list_holds, OPERATOR | PRIVACY_OFFICER),
    Route("POST", "/api/v1/journal/holds/release", release, OPERATOR | PRIVACY_OFFICER),
)
