"""The way in: a person is looked for at every facility, and one list comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Annotated, Final, Literal

from aiohttp import web
from pydantic import Field

from peer.actors import Actor
from peer.errors import NodeError
from peer.index import studies
from peer.index.conditions import StudyQuery
from peer.search import Answer, Filters, Heard, Question, Result
from peer.web.api.bodies import Body, Id16Hex, PeerIdHex
from peer.web.api.person_links import RefHex
from peer.web.api.search import FiltersBody, SearchBody, question_of, told, wants_lines
from peer.web.errors import Problem, RequestError
from peer.web.identity import actor
from peer.web.pages.answers import ANSWERS, Kept
from peer.web.pages.page import Form, checked, read_form, render, see_other
from peer.web.routes import ANYONE, CLINICIAN, Route, services
from peer.web.streams import unless_abandoned
from protocol.consent import PurposeOfUse
from protocol.errors import Refusal
from protocol.identifiers import EntryId
from protocol.identify import Outcome
from protocol.matching.keys import Demographics

_EMPTY: Final = Form({})

REFS: Final = 256
"""Most records of one person in one form; a form has a bound of its own."""


class RecordForm(Body):
    """A record at which a search has hinted."""

    peer_id: PeerIdHex
    record: Id16Hex


class LinkForm(Body):
    """Records of one person in the list, and whether that is whom was asked for."""

    refs: Annotated[tuple[RefHex, ...], Field(min_length=1, max_length=REFS)]
    same: Literal["yes", "no"]


class UnlinkForm(Body):
    """A link that is to be undone."""

    link: Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True)
class _Section:
    """One person of an answer: the description that stands for them, and their studies."""

    person: Demographics
    results: list[Result]
    answer: Answer

    @property
    def refs(self) -> str:
        """The refs of their records, in hex, divided by blanks."""
        return " ".join(dict.fromkeys(each.ref.hex() for each in self.results))

    @property
    def asks(self) -> bool:
        """Whether it is worth asking whether this is the person asked for."""
        ours = any(each.ref == self.answer.ref for each in self.results)
        return not ours and len(self.answer.persons) > 1


async def home(request: web.Request) -> web.StreamResponse:
    """Show the form to clinicians; lead others to what they can do."""
    if not CLINICIAN & actor(request).roles:
        return see_other("/status")
    return await _form(request, _EMPTY)


async def to_form(_request: web.Request) -> web.StreamResponse:
    """Lead whoever comes back to the address of an answer or loads it again to the form."""
    return see_other("/")


async def to_answer(request: web.Request) -> web.StreamResponse:
    """Lead whoever loads the address of something done to an answer to that answer."""
    return see_other(f"/search/{request.match_info['search']}")


async def search(request: web.Request) -> web.StreamResponse:
    """Search, and lead to the answer."""
    form = await read_form(request)
    asked, wrong = checked(SearchBody, _values(form))
    if asked is None:
        return await _form(request, form, wrong)
    try:
        who = actor(request, asked.purpose)
        if wants_lines(request):
            return await _told(request, asked, who)
        return await _answered(request, question_of(asked), who, asked.reason)
    except Refusal as refusal:
        return await _form(request, form, {"form": f"{refusal.reason} {refusal.remedy}"})


async def _told(request: web.Request, asked: SearchBody, who: Actor) -> web.StreamResponse:
    """Tell what each facility has as it comes, and in the end where the whole answer stands."""
    return await told(
        request,
        asked,
        who,
        Heard.to_json,
        lambda found: {"page": _keep(request, found, question_of(asked), who, asked.reason)},
    )


async def _answered(
    request: web.Request, question: Question, who: Actor, reason: str
) -> web.StreamResponse:
    work = services(request).search.search(question, who, reason)
    found = await unless_abandoned(request, work)
    return see_other(_keep(request, found, question, who, reason))


def _keep(request: web.Request, found: Answer, question: Question, who: Actor, reason: str) -> str:
    kept = Kept(found, question, who, services(request).clock.now(), reason)
    return f"/search/{request.app[ANSWERS].keep(kept)}"


async def narrow(request: web.Request) -> web.StreamResponse:
    """Show, of what was found, only some."""
    kept = _kept(request)
    if kept is None:
        return await _no_longer_kept(request)
    form = await read_form(request)
    values = {name: form.text(name) for name in FiltersBody.model_fields}
    asked, wrong = checked(FiltersBody, values)
    if asked is None:
        raise RequestError(Problem(422, "invalid-request", " ".join(wrong.values())))
    name = request.app[ANSWERS].keep(replace(kept, filters=Filters(**asked.model_dump())))
    return see_other(f"/search/{name}#studies")


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


async def link(request: web.Request) -> web.StreamResponse:
    """Say that records are the patient's who was asked for, or somebody else's; search again."""
    rooms = services(request)
    kept = _kept(request)
    if kept is None:
        return await _no_longer_kept(request)
    form = await read_form(request)
    asked, wrong = checked(LinkForm, {"refs": form.text("refs").split(), "same": form.text("same")})
    if asked is None:
        raise RequestError(Problem(422, "invalid-request", " ".join(wrong.values())))
    who = actor(request)
    for ref in asked.refs:
        await rooms.person_links.say(
            kept.answer.ref, bytes.fromhex(ref), who, same=asked.same == "yes"
        )
    return await _answered(request, kept.question, kept.actor, kept.reason)


async def unlink(request: web.Request) -> web.StreamResponse:
    """Undo what was said, and search again."""
    kept = _kept(request)
    if kept is None:
        return await _no_longer_kept(request)
    form = await read_form(request)
    asked, wrong = checked(UnlinkForm, {"link": form.text("link")})
    if asked is None:
        raise RequestError(Problem(422, "invalid-request", " ".join(wrong.values())))
    await services(request).person_links.undo(asked.link, actor(request))
    return await _answered(request, kept.question, kept.actor, kept.reason)


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
    shown = kept.answer.only(kept.filters.admit)
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
        _Section(person, [each for each in shown.results if each.person == number], kept.answer)
        for number, person in enumerate(kept.answer.persons)
    ]
    return await render(
        request,
        "answer.html",
        kept=kept,
        people=[section for section in people if section.results],
        left_out=shown.left_out,
        choices=_choices(results),
        held=held,
        under_way=under_way,
        key_of=_key_of,
    )


def _choices(results: Sequence[Result]) -> dict[str, list[str]]:
    """Return what there is to choose from, of each thing by which studies can be told apart."""
    return {
        "modality": sorted({one for each in results for one in each.modalities}),
        "body_part": sorted({one for each in results for one in each.body_parts}),
        "facility": sorted({each.facility.name for each in results}),
    }


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
    Route("GET", "/search", to_form, ANYONE),
    Route("GET", "/search/{search:[0-9a-f]+}", show_answer, CLINICIAN),
    Route("POST", "/search/{search:[0-9a-f]+}/identify", identify, CLINICIAN),
    Route("POST", "/search/{search:[0-9a-f]+}/link", link, CLINICIAN),
    Route("POST", "/search/{search:[0-9a-f]+}/unlink", unlink, CLINICIAN),
    Route("POST", "/search/{search:[0-9a-f]+}/filters", narrow, CLINICIAN),
    *(
        Route("GET", f"/search/{{search:[0-9a-f]+}}/{done}", to_answer, CLINICIAN)
        for done in ("identify", "link", "unlink", "filters")
    ),
)
