"""QIDO-RS for studies at every facility: whose query it is for, and the answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

from aiohttp import web

from peer.index import Tx, patients, studies
from peer.index.studies import StudyRow
from peer.search import Answer, Question, Result
from peer.search.querying import is_asked_for, question_of
from peer.web.dicomweb.attributes import Json, found_json, study_json
from peer.web.dicomweb.query import Asked
from peer.web.dicomweb.resource import bad_request
from peer.web.errors import Problem, RequestError
from peer.web.identity import actor
from peer.web.routes import services
from peer.web.streams import unless_abandoned
from protocol.errors import Refusal
from protocol.matching.keys import refusal_reason

PARAMETER: Final = "federated"
"""Of the address: true asks every facility, false only this one."""

_LOCAL: Final = "Only the studies that are held here were searched: {}"
_UNSURE: Final = "{} more found whose patient is only probably the same; look at them on the page."


@dataclass(frozen=True, slots=True)
class Federated:
    """A page of an answer, and what is to be said of it."""

    page: list[Json]
    warnings: list[str]


def question_for(request: web.Request, asked: Asked) -> tuple[Question | None, list[str]]:
    """Return whom every facility is to be asked for, or None if only this one is; and why.

    A token that an operator has made for it asks by itself; everyone else by the parameter.
    Raises RequestError, or Refusal if the token is not for it.
    """
    who, said = actor(request), request.query.get(PARAMETER)
    if said not in (None, "true", "false"):
        raise bad_request(f"{PARAMETER} is true or false.")
    if said == "true" and who.kind == "token" and not who.federated:
        raise Refusal(
            "not-permitted",
            "This token searches the studies that are held here, and no other facility.",
            "Use a token that an operator has made for searching every facility.",
        )
    if said == "false" or not (said or who.federated):
        return None, []
    question = question_of(asked.study, who)
    if said is None and (reason := refusal_reason(question.person)) is not None:
        return None, [_LOCAL.format(reason)]
    return question, []


async def search(request: web.Request, asked: Asked, question: Question, service: str) -> Federated:
    """Search every facility; raise RequestError if the question names nobody."""
    rooms = services(request)
    try:
        found = await unless_abandoned(request, rooms.search.search(question, actor(request)))
    except Refusal as refusal:
        if refusal.code != "too-little":
            raise
        problem = Problem(HTTPStatus.BAD_REQUEST, refusal.code, refusal.reason, refusal.remedy)
        raise RequestError(problem) from None
    wanted = [each for each in found.results if is_asked_for(asked.study, each)]
    page = wanted[asked.offset : asked.offset + asked.limit]
    warnings = _warnings(found)
    if len(wanted) > asked.offset + asked.limit:
        warnings.append("There are additional results that can be requested.")
    return Federated(
        await rooms.db.read(lambda tx: list(_described(tx, page, found, service))), warnings
    )


def _warnings(found: Answer) -> list[str]:
    warnings = [found.coverage.sentence] if found.coverage.not_searched else []
    if found.doubtful:
        warnings.append(_UNSURE.format(len(found.doubtful)))
    return warnings


def _described(tx: Tx, page: Sequence[Result], found: Answer, service: str) -> Iterator[Json]:
    reached = {each.peer_id for each in found.coverage.searched}
    for each in page:
        held: StudyRow | None = studies.get(tx, each.study_instance_uid) if each.held_here else None
        if held is not None:
            named = replace(held, institution=each.facility.name)
            yield study_json(named, patients.get(tx, held.patient), service)
        else:
            yield found_json(each, is_reached=each.facility.peer_id in reached)
