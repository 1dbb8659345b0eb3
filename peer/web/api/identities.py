"""Records that may be a patient's: asking the facility, and answering those who ask us."""

from __future__ import annotations

from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import Field

from peer.search import WaitingQuestion
from peer.search.answer import person_json
from peer.web.api.bodies import Body, Id16Hex, PeerIdHex, answer, body, path, purpose_of
from peer.web.api.search import SearchBody, question_of
from peer.web.identity import actor
from peer.web.routes import CLINICIAN, PRIVACY_OFFICER, Route, services
from protocol.identifiers import EntryId


class IdentifyBody(SearchBody):
    """The question of the search, and the record that it hinted at."""

    peer_id: PeerIdHex
    record: Id16Hex


class QuestionPath(Body):
    """One question that waits."""

    question: Annotated[int, Field(ge=1)]


class DecisionBody(Body):
    """Whether both descriptions are of one person."""

    same: bool


async def identify(request: web.Request) -> web.StreamResponse:
    """Ask one facility whether a record of its is the patient's."""
    asked = await body(request, IdentifyBody)
    who = actor(request, purpose_of(asked.purpose, asked.reason))
    found = await services(request).identifying.ask(
        question_of(asked), asked.peer_id, EntryId(asked.record), who, asked.reason
    )
    return answer(found.to_json())


async def waiting(request: web.Request) -> web.StreamResponse:
    """Return the questions of partners at which someone here must look."""
    found = await services(request).identities.waiting()
    return answer({"questions": [_shown(each) for each in found]})


async def decide(request: web.Request) -> web.StreamResponse:
    """Say whether both descriptions are of one person."""
    which = path(request, QuestionPath)
    said = await body(request, DecisionBody)
    await services(request).identities.decide(which.question, actor(request), same=said.same)
    return answer({"question": which.question, "same": said.same})


def _shown(waiting: WaitingQuestion) -> dict[str, Any]:
    return {
        "question": waiting.asked.question,
        "facility": {"peer_id": waiting.asked.partner.hex(), "name": waiting.facility},
        "asked_at": waiting.asked.asked_at,
        "purpose": waiting.asked.purpose,
        "theirs": person_json(waiting.theirs),
        "ours": person_json(waiting.ours),
        "reasons": list(waiting.score.reasons()),
        "probability": round(waiting.score.probability, 4),
    }


ROUTES: Final = (
    Route("POST", "/api/v1/search/identify", identify, CLINICIAN),
    Route("GET", "/api/v1/identity-questions", waiting, CLINICIAN | PRIVACY_OFFICER),
    Route("POST", "/api/v1/identity-questions/{question}", decide, CLINICIAN | PRIVACY_OFFICER),
)
