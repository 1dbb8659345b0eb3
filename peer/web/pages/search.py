"""The way in: a person is looked for at every facility, and one list comes back."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web

from peer.index import studies
from peer.index.studies import StudyQuery
from peer.search import Question, Result
from peer.web.api.search import SearchBody
from peer.web.identity import actor
from peer.web.pages.answers import ANSWERS, Kept
from peer.web.pages.page import Form, checked, read_form, render, see_other
from peer.web.routes import ANYONE, CLINICIAN, Route, services
from protocol.consent import PurposeOfUse
from protocol.errors import Refusal
from protocol.identifiers import PatientIdentifier

_EMPTY: Final = Form({})


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
    rooms = services(request)
    question = Question(
        name=asked.name,
        birth_date=asked.birth_date,
        sex=asked.sex,
        identifiers=tuple(PatientIdentifier(i.issuer, i.value) for i in asked.identifiers),
    )
    who = actor(request, asked.purpose)
    try:
        answer = await rooms.search.search(question, who, asked.reason)
    except Refusal as refusal:
        return await _form(request, form, {"form": f"{refusal.reason} {refusal.remedy}"})
    kept = Kept(answer, question, who, rooms.clock.now(), asked.reason)
    name = request.app[ANSWERS].keep(kept)
    return see_other(f"/search/{name}")


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
    rooms, who = services(request), actor(request)
    kept = request.app[ANSWERS].get(request.match_info["search"], who, rooms.clock.now())
    if kept is None:
        wrong = {"form": "The results of that search are no longer kept. Search again."}
        return await _form(request, _EMPTY, wrong, HTTPStatus.NOT_FOUND)
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


def _key_of(result: Result) -> tuple[bytes, str]:
    return bytes(result.facility.peer_id), result.study_instance_uid


ROUTES: Final = (
    Route("GET", "/", home, ANYONE),
    Route("POST", "/search", search, CLINICIAN),
    Route("GET", "/search/{search:[0-9a-f]+}", show_answer, CLINICIAN),
)
