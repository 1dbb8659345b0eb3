"""The ledger of receipts for studies handed over or fetched."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from peer.web.api.bodies import Body, Uid, answer, query
from peer.web.routes import CLINICIAN, PRIVACY_OFFICER, Route, services


class ReceiptsQuery(Body):
    """Of which study."""

    study_instance_uid: Uid


async def list_receipts(request: web.Request) -> web.StreamResponse:
    """Return the receipts for one study, given and received."""
    asked = query(request, ReceiptsQuery)
    found = await services(request).retrieve.receipts(asked.study_instance_uid)
    return answer({"receipts": found})


ROUTES: Final = (Route("GET", "/api/v1/receipts", list_receipts, CLINICIAN | PRIVACY_OFFICER),)
