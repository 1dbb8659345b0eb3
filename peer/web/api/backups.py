"""Backups of this node: the command line makes them, and has them put on record here."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from peer.backup import LastBackup
from peer.web.api.bodies import Body, answer, body
from peer.web.identity import actor
from peer.web.routes import ANYONE, OPERATOR, Route, services

SetName = Annotated[str, Field(pattern=r"^\d{8}T\d{6}Z-[0-9a-f]{4}$")]


class BeginBody(Body):
    """The set that is about to be made."""

    set: SetName


class DoneBody(Body):
    """A set that is complete and durable.  made_at: of when it is, Unix seconds."""

    set: SetName
    made_at: Annotated[int, Field(ge=0)]
    packs: Annotated[int, Field(ge=0)]
    missing: Annotated[int, Field(ge=0)]


async def show(request: web.Request) -> web.StreamResponse:
    """Return the newest complete backup that was told here."""
    return answer({"last": backup_json(await services(request).backups.last())})


async def begin(request: web.Request) -> web.StreamResponse:
    """Put on record that everything here is about to be copied."""
    asked = await body(request, BeginBody)
    await services(request).backups.begin(asked.set, actor(request))
    return answer({"set": asked.set})


async def done(request: web.Request) -> web.StreamResponse:
    """Put on record that a set is complete."""
    asked = await body(request, DoneBody)
    last = await services(request).backups.done(
        asked.set, asked.made_at, asked.packs, asked.missing, actor(request)
    )
    return answer({"last": backup_json(last)})


def backup_json(last: LastBackup | None) -> dict[str, object] | None:
    """Return a backup, ready to be written as JSON."""
    if last is None:
        return None
    found = asdict(last)
    return {"set": found.pop("set_name"), **found}


ROUTES: Final = (
    Route("GET", "/api/v1/backups", show, ANYONE),
    Route("POST", "/api/v1/backups/begin", begin, OPERATOR),
    Route("POST", "/api/v1/backups/done", done, OPERATOR),
)
