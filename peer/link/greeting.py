"""The hello round trip with which every link begins.

In TLS 1.3 the dialling side finishes its handshake before the other has judged its certificate, so
only an answered hello shows that the link was accepted.
"""

from __future__ import annotations

import asyncio
from typing import Final, TypeAlias

from aiohttp import ClientWebSocketResponse, WSMsgType, web

from peer.keys import NodeKeys
from peer.partners import Partner
from protocol.errors import Malformed, Refusal, RemoteProtocolError, WrongAddressee
from protocol.messages import Hello, Kind, Refused, decode, encode
from protocol.versions import OURS, Versions, common_version

HELLO_ID: Final = 0

Socket: TypeAlias = ClientWebSocketResponse | web.WebSocketResponse


class Closed(Exception):
    """The other side closed the connection in place of an answer."""


def our_hello(keys: NodeKeys, partner: Partner, now: int, speaks: Versions = OURS) -> Hello:
    """Return the hello that this node says to `partner`."""
    return Hello(
        oldest_version=speaks.oldest,
        newest_version=speaks.newest,
        peer_id=keys.peer_id,
        addressee=partner.peer_id,
        record_held=partner.record.revision,
        now=now,
    )


async def say_hello(socket: Socket, ours: Hello, within_s: float) -> Hello:
    """Say hello as the side that dialled; return the other's, which takes a round trip.

    Raise Closed, TimeoutError, Refusal for a "no" of either side, RemoteProtocolError for a wrong
    answer.
    """
    await socket.send_bytes(encode(ours, Kind.REQUEST, HELLO_ID))
    kind, theirs = await _receive(socket, within_s)
    if kind == Kind.REFUSAL and isinstance(theirs, Refused):
        raise Refusal(theirs.code, theirs.reason, theirs.remedy)
    if kind != Kind.ANSWER or not isinstance(theirs, Hello):
        msg = "a hello was answered by something else"
        raise Malformed(msg)
    _check(theirs, ours)
    return theirs


async def answer_hello(socket: Socket, ours: Hello, within_s: float) -> Hello:
    """Answer the hello of the side that dialled and return it; raise as `say_hello` does."""
    kind, theirs = await _receive(socket, within_s)
    if kind != Kind.REQUEST or not isinstance(theirs, Hello):
        msg = "a link does not begin with a hello"
        raise Malformed(msg)
    try:
        # Told first, in their terms: whoever dialled may be the older side, and must learn of it.
        common_version(versions_of(theirs), versions_of(ours))
        _check(theirs, ours)
    except (Refusal, RemoteProtocolError) as error:
        await socket.send_bytes(encode(_refused(error), Kind.REFUSAL, HELLO_ID))
        common_version(versions_of(ours), versions_of(theirs))
        raise
    await socket.send_bytes(encode(ours, Kind.ANSWER, HELLO_ID))
    return theirs


async def _receive(socket: Socket, within_s: float) -> tuple[int, object]:
    async with asyncio.timeout(within_s):
        received = await socket.receive()
    if received.type is not WSMsgType.BINARY:
        raise Closed
    frame, message = decode(received.data)
    if frame.id != HELLO_ID:
        msg = "a hello has another number than it must"
        raise Malformed(msg)
    return frame.kind, message


def versions_of(hello: Hello) -> Versions:
    """Return the versions that whoever says this hello speaks."""
    return Versions(hello.oldest_version, hello.newest_version)


def _refused(error: Refusal | RemoteProtocolError) -> Refused:
    if isinstance(error, Refusal):
        return Refused(error.code, error.reason, error.remedy)
    return Refused(error.code, str(error), "Correct the address in the key record.")


def _check(theirs: Hello, ours: Hello) -> None:
    common_version(versions_of(ours), versions_of(theirs))
    if theirs.peer_id != ours.addressee:
        msg = "a hello names another facility than the certificate it comes with"
        raise WrongAddressee(msg)
    if theirs.addressee != ours.peer_id:
        msg = "a hello is meant for another facility"
        raise WrongAddressee(msg)
