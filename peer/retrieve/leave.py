"""Asking an origin for leave: a signed request, a grant, a manifest that is the promised one."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final

from peer.actors import Actor, Role, known_as
from peer.clock import Clock
from peer.errors import NodeError
from peer.keys import NodeKeys
from peer.link import Links
from peer.partners import Partner
from peer.reciprocity import Reciprocity
from protocol.errors import Malformed, UnknownMessage, WrongContent
from protocol.grant import (
    REQUEST_DOMAIN,
    GrantBody,
    GrantRequestBody,
    SignedGrant,
    open_grant,
    open_keys,
)
from protocol.identifiers import PeerId
from protocol.limits import GRANT_ANSWER_BYTES, MANIFEST_BYTES, PIECE_BYTES, PROTOCOL_VERSION
from protocol.manifest import Manifest, SignedManifest, open_manifest
from protocol.messages import GrantAnswer, GrantRequest
from protocol.records import from_bytes
from protocol.statements import sign_statement

NONCE_BYTES: Final = 16


class Unreachable(NodeError):
    """The partner cannot be reached now; whatever was wanted may go on later."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What a digest said of a study: its name at the origin, and the manifest to expect."""

    retrieve_handle: bytes
    manifest_root: bytes
    manifest_version: int


@dataclass(frozen=True, slots=True)
class Leave:
    """A grant that was verified, with all it needs to be used; the keys are in memory alone."""

    grant: GrantBody
    manifest: Manifest
    signed: SignedManifest
    keys: dict[bytes, bytes]

    @property
    def path(self) -> str:
        """Where the origin serves what was granted; a pack's id in hex goes behind it."""
        return f"/v1/packs/{self.grant.grant_id.hex()}/"


async def ask_leave(
    links: Links,
    reciprocity: Reciprocity,
    keys: NodeKeys,
    clock: Clock,
    *,
    partner: Partner,
    promise: Promise,
    actor: Actor,
    within_s: float,
) -> Leave:
    """Return leave to fetch the study that `promise` speaks of.

    Raises Refusal if the origin says no, Unreachable, or a RemoteProtocolError if its answer is not
    a grant of this request for the manifest that the digest promised or a later one.
    """
    request = GrantRequestBody(
        version=PROTOCOL_VERSION,
        author=keys.peer_id,
        addressee=partner.peer_id,
        issued_at=clock.now(),
        nonce=secrets.token_bytes(NONCE_BYTES),
        retrieve_handle=promise.retrieve_handle,
        person=known_as(actor, keys.pseudonym_key),
        role=_role(actor),
        purpose=actor.purpose,
    )
    message = GrantRequest(sign_statement(keys.node_seed, REQUEST_DOMAIN, request))
    answer = await asked(reciprocity, partner.peer_id, message, within_s)
    if not isinstance(answer, GrantAnswer):
        raise UnknownMessage("a request for a study was answered by something that is no grant")
    signed = from_bytes(SignedGrant, answer.grant, GRANT_ANSWER_BYTES)
    node_key = partner.record.node_public
    grant = open_grant(signed, key=node_key, request=request, now=clock.now())
    manifest = await _manifest(links, partner.peer_id, grant, answer.manifest)
    # Hashing and checking a long manifest takes a while; other links must not wait for it.
    opened = await asyncio.to_thread(open_manifest, manifest, node_key, grant.manifest_root)
    _check_promise(opened, grant, promise)
    return Leave(
        grant,
        opened,
        manifest,
        keys.unsealed(partial(open_keys, signed=signed, grant=grant, packs=opened.packs)),
    )


async def asked(
    reciprocity: Reciprocity, peer_id: PeerId, message: object, within_s: float
) -> object:
    """Return a partner's answer; raise Refusal, or Unreachable whatever kept it from answering."""
    try:
        return await reciprocity.ask(peer_id, message, within_s)
    except (NodeError, TimeoutError) as error:
        raise Unreachable(str(error)) from error


async def fetched(links: Links, peer_id: PeerId, path: str, start: int, end: int) -> bytes:
    """Return a range from a partner; raise Refusal, or Unreachable if it does not come whole."""
    try:
        data = await links.open_range(peer_id, path, start, end)
    except (NodeError, TimeoutError) as error:
        raise Unreachable(str(error)) from error
    if len(data) > end - start:
        raise Malformed("more bytes came than were asked for")
    return data


async def streamed(
    links: Links, peer_id: PeerId, path: str, start: int, end: int
) -> AsyncGenerator[bytes, None]:
    """Yield a range from a partner in parts; raise Refusal, or Unreachable where it breaks off."""
    left = end - start
    try:
        async with aclosing(links.stream_range(peer_id, path, start, end)) as parts:
            async for part in parts:
                left -= len(part)
                if left < 0:
                    raise Malformed("more bytes came than were asked for")
                yield part
    except (NodeError, TimeoutError) as error:
        raise Unreachable(str(error)) from error


async def _manifest(
    links: Links, peer_id: PeerId, grant: GrantBody, inline: bytes
) -> SignedManifest:
    """Return the manifest beside a grant; one that is too long for a message comes in ranges."""
    signed = from_bytes(SignedManifest, inline, GRANT_ANSWER_BYTES)
    if signed.manifest:
        return signed
    if grant.manifest_bytes > MANIFEST_BYTES:
        raise WrongContent("a grant is for a manifest that is longer than any may be")
    path = f"/v1/packs/{grant.grant_id.hex()}/{grant.grant_id.hex()}"
    parts = [
        await fetched(links, peer_id, path, at, min(at + PIECE_BYTES, grant.manifest_bytes))
        for at in range(0, grant.manifest_bytes, PIECE_BYTES)
    ]
    return SignedManifest(b"".join(parts), signed.signature)


def _check_promise(manifest: Manifest, grant: GrantBody, promise: Promise) -> None:
    older = manifest.version < promise.manifest_version
    if older or manifest.version != grant.manifest_version:
        raise WrongContent("a grant is for an older version of the study than its digest promised")
    same = manifest.version == promise.manifest_version
    if same and grant.manifest_root != promise.manifest_root:
        raise WrongContent("a grant is for other content than the digest of the study promised")


def _role(actor: Actor) -> str:
    return Role.CLINICIAN if Role.CLINICIAN in actor.roles else " ".join(sorted(actor.roles))
