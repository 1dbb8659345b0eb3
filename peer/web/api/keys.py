"""The keys of this node: shown, and exchanged with the root key's signature."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import Field

from peer.keys import ends_at, find_root_key, fingerprint
from peer.partners import Partner
from peer.web.api.bodies import Body, answer, body, hexadecimal
from peer.web.identity import actor
from peer.web.routes import ANYONE, OPERATOR, Route, services
from peer.web.services import Services
from protocol.errors import Malformed
from protocol.keyrecord import SignedKeyRecord
from protocol.limits import KEY_RECORD_BYTES
from protocol.records import to_bytes
from protocol.signing import SIGNATURE_BYTES

DAY_S: Final = 24 * 3600


class DraftBody(Body):
    """Whether there are to be new keys, or only another name or address."""

    new_keys: bool = True


class SignedBody(Body):
    """The record that was drafted, and the root key's signature."""

    record: Annotated[str, Field(max_length=2 * KEY_RECORD_BYTES)]
    signature: Annotated[bytes, hexadecimal(SIGNATURE_BYTES)]


async def show(request: web.Request) -> web.StreamResponse:
    """Return what stands in the key record, and which partner has the newest one."""
    return answer(await keys_json(services(request)))


async def draft(request: web.Request) -> web.StreamResponse:
    """Return the key record that the root key is to sign."""
    wanted = await body(request, DraftBody)
    record = await services(request).rotation.begin(new_keys=wanted.new_keys)
    return answer({"record": to_bytes(record)}, HTTPStatus.CREATED)


async def install(request: web.Request) -> web.StreamResponse:
    """Put the keys of the drafted record to use; partners are told."""
    signed = await body(request, SignedBody)
    try:
        record = bytes.fromhex(signed.record)
    except ValueError as error:
        msg = "a key record is given in hexadecimal digits"
        raise Malformed(msg) from error
    rooms = services(request)
    await rooms.rotation.finish(SignedKeyRecord(record, signed.signature), actor(request))
    return answer(await keys_json(rooms))


async def keys_json(rooms: Services) -> dict[str, Any]:
    """Return what is known of the keys, without any secret, ready to be written as JSON."""
    record, now = rooms.keys.key_record, rooms.clock.now()
    return {
        "peer_id": record.peer_id,
        "facility_name": record.facility_name,
        "revision": record.revision,
        "issued_at": record.issued_at,
        "renew_by": record.renew_by,
        "days_left": (record.renew_by - now) // DAY_S,
        "node_keys": [
            {"public": each.public, "from_epoch": each.from_epoch, "from_batch": each.from_batch}
            for each in record.node_keys
        ],
        "sealing_key": record.seal_public,
        "certificate": {
            "fingerprint": fingerprint(record.tls_certificate),
            "ends_at": ends_at(record.tls_certificate),
        },
        "federation_url": record.federation_url,
        "pairing_url": record.pairing_url,
        "root_key_expected_at": rooms.settings.keys.root_key_hint,
        "root_key_in_data": await asyncio.to_thread(find_root_key, rooms.rotation.data) is not None,
        "partners": [
            _partner(each, record.revision) for each in rooms.partners.all() if each.active
        ],
    }


def _partner(partner: Partner, revision: int) -> dict[str, Any]:
    return {
        "peer_id": partner.peer_id,
        "name": partner.name,
        "has_our_newest": partner.holds >= revision,
        "has_our_revision": partner.holds,
        "revision": partner.record.revision,
        "renew_by": partner.record.renew_by,
        "certificate_ends_at": ends_at(partner.record.tls_certificate),
    }


ROUTES: Final = (
    Route("GET", "/api/v1/keys", show, ANYONE),
    Route("POST", "/api/v1/keys/draft", draft, OPERATOR),
    Route("POST", "/api/v1/keys/record", install, OPERATOR),
)
