"""The way in: a person is looked for at every facility, and one list comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Final

from aiohttp import web

from peer.actors import Actor
from peer.errors import NodeError
from peer.index import studies
from peer.index.studies import StudyQuery
from peer.search import Question, Result
from peer.web.api.bodies import Body, Id16Hex, PeerIdHex
from peer.web.api.search import SearchBody, question_of
from peer.web.errors import Problem, RequestError
from peer.web.identity import actor
from peer.web.pages.answers import ANSWERS, Kept
from peer.web.pages.page import Form, checked, read_form, render, see_other
from peer.web.routes import ANYONE, CLINICIAN, Route, services
from protocol.consent import PurposeOfUse
from protocol.errors import Refusal
from protocol.identifiers import EntryId
from protocol.identify import Outcome

_EMPTY: Final = Form({})


class RecordForm(Body):
    """A record at which a search has hinted."""

    peer_id: PeerIdHex
    record: Id16Hex


async def home(request: web.Request) -> web.StreamResponse:
    """Show the form to clinicians; lead others to what they can do."""
    if not CLINICIAN & actor(request).roles:
        return see_other("/status")
    return await _form(request, _EMPTY)


async def search(request: web.Request) -> web.StreamResponse:
    """Search, and lead to the answer."""
    form = await read_form(request)
    asked, wrong = checked(SearchBody, _values(form))
    if asked is None:
        return await _form(request, form, wrong)
    try:
        who = actor(request, asked.purpose)
        return await _answered(request, question_of(asked), who, asked.reason)
    except Refusal as refusal:
        return await _form(request, form, {"form": f"{refusal.reason} {refusal.remedy}"})


async def _answered(
    request: web.Request, question: Question, who: Actor, reason: str
) -> web.StreamResponse:
    rooms = services(request)
    answer = await rooms.search.search(question, who, reason)
    kept = Kept(answer, question, who, rooms.clock.now(), reason)
    name = request.app[ANSWERS].keep(kept)
    return see_other(f"/search/{name}")


async def identify(request: web.Request) -> web.StreamResponse:
    """Ask a facility whether a record of its is the patient's, and show what it says."""
    rooms = services(request)
    kept = _kept(request)
    if kept is None:
        return await _no_longer_kept(request)
    form = await read_form(request)
    values = {"peer_id": form.text("peer_id"), "record": form.text("record")}
    asked, wrong = checked(RecordForm, values)
    if asked is None:
        raise RequestError(Problem(422, "invalid-request", " ".join(wrong.values())))
    try:
        said = await rooms.identifying.ask(
            kept.question, asked.peer_id, EntryId(asked.record), kept.actor, kept.reason
        )
    except Refusal as refusal:
        note = f"{refusal.reason} {refusal.remedy}"
    except NodeError as error:
        note = str(error)
    else:
        if said.outcome is Outcome.SAME:
            return await _answered(request, kept.question, kept.actor, kept.reason)
        note = said.sentence
    said_by = {**kept.said, asked.record: note}
    name = request.app[ANSWERS].keep(replace(kept, said=said_by))
    return see_other(f"/search/{name}#hints")


def _values(form: Form) -> dict[str, object]:
    identifier, reason = form.text("identifier"), form.text("reason")
    return {
        "name": as_dicom(form.text("name")),
        "birth_date": form.text("birth_date"),
        "sex": form.text("sex"),
        "identifiers": [{"issuer": form.text("issuer"), "value": identifier}] if identifier else [],
        "purpose": PurposeOfUse.BTG if reason else form.text("purpose") or None,
        "reason": reason,
    }


def as_dicom(name: str) -> str:
    """Return "Family, Given" as a DICOM person name; without a comma the name as it is."""
    family, comma, given = name.partition(",")
    return f"{family.strip()}^{given.strip()}" if comma and "^" not in name else name


async def _form(
    request: web.Request,
    form: Form,
    wrong: Mapping[str, str] | None = None,
    status: HTTPStatus = HTTPStatus.UNPROCESSABLE_ENTITY,
) -> web.StreamResponse:
    shown = status if wrong else HTTPStatus.OK
    return await render(request, "search.html", shown, form=form, wrong=wrong or {})


async def show_answer(request: web.Request) -> web.StreamResponse:
    """Show an answer, with what is here by now."""
    rooms = services(request)
    kept = _kept(request)
    if kept is None:
        return await _no_longer_kept(request)
    results = kept.answer.results
    uids = tuple({result.study_instance_uid for result in results})
    held = await rooms.db.read(
        lambda tx: (
            {
                study.study_instance_uid
                for study in studies.search(tx, StudyQuery(study_instance_uids=uids))
            }
            if uids
            else set[str]()
        )
    )
    under_way = {
        (bytes(each.row.origin), each.row.study_instance_uid): each
        for each in await rooms.retrieve.list()
        if not each.row.finished
    }
    people = [
        (person, [result for result in results if result.person == number])
        for number, person in enumerate(kept.answer.persons)
    ]
    return await render(
        request,
        "answer.html",
        kept=kept,
        people=people,
        held=held,
        under_way=under_way,
        key_of=_key_of,
    )


def _kept(request: web.Request) -> Kept | None:
    now = services(request).clock.now()
    return request.app[ANSWERS].get(request.match_info["search"], actor(request), now)


async def _no_longer_kept(request: web.Request) -> web.StreamResponse:
    wrong = {"form": "The results of that search are no longer kept. Search again."}
    return await _form(request, _EMPTY, wrong, HTTPStatus.NOT_FOUND)


def _key_of(result: Result) -> tuple[bytes, str]:
    return bytes(result.facility.peer_id), result.study_instance_uid


ROUTES: Final = (
    Route("GET", "/", home, ANYONE),
    Route("POST", "/search", search, CLINICIAN),
    Route("GET", "/search/{search:[0-9a-f]+}", show_answer, CLINICIAN),
    Route("POST", "/search/{search:[0-9a-f]+}/identify", identify, CLINICIAN),
)
