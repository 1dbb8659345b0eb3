"""Patients who are expected: who is on the list, how far it is, and what came of it."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from peer.search import expected_file
from peer.web.api.bodies import path
from peer.web.api.prefetch import PATIENTS, ExpectedPath, PrefetchBody
from peer.web.api.search import question_of
from peer.web.identity import actor
from peer.web.pages.page import Form, checked, read_form, render, see_other
from peer.web.routes import CLINICIAN, Route, services
from protocol.errors import Refusal

_EMPTY: Final = Form({})


async def show(request: web.Request) -> web.StreamResponse:
    """Show the list."""
    return await _page(request, _EMPTY)


async def add(request: web.Request) -> web.StreamResponse:
    """Put the patients of a list on it."""
    form = await read_form(request)
    try:
        patients = expected_file.read(form.text("patients").splitlines())
        values = {"patients": patients, "purpose": form.text("purpose") or None}
        asked, wrong = checked(PrefetchBody, values)
        if asked is None:
            return await _page(request, form, f"No such list: {' '.join(wrong.values())}")
        questions = [question_of(each) for each in asked.patients]
        await services(request).prefetch.add(questions, actor(request, asked.purpose))
    except Refusal as refusal:
        return await _page(request, form, f"{refusal.reason} {refusal.remedy}")
    return see_other("/expected")


async def drop(request: web.Request) -> web.StreamResponse:
    """Take a patient off the list."""
    which = path(request, ExpectedPath)
    await services(request).prefetch.drop(which.expected, actor(request))
    return see_other("/expected")


async def _page(request: web.Request, form: Form, wrong: str = "") -> web.StreamResponse:
    listed = await services(request).prefetch.list(PATIENTS)
    done = sum(each.row.due_at is None for each in listed)
    return await render(
        request,
        "expected.html",
        422 if wrong else 200,
        listed=listed,
        done=done,
        form=form,
        wrong=wrong,
        columns=expected_file.COLUMNS,
    )


ROUTES: Final = (
    Route("GET", "/expected", show, CLINICIAN),
    Route("POST", "/expected", add, CLINICIAN),
    Route("POST", "/expected/{expected}/drop", drop, CLINICIAN),
)
