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
from protocol.errors import Malformed, Refusal, RemoteProtocolError, UnknownMessage, WrongAddressee
from protocol.limits import PROTOCOL_VERSION
from protocol.messages import Hello, Kind, Refused, decode, encode

HELLO_ID: Final = 0

Socket: TypeAlias = ClientWebSocketResponse | web.WebSocketResponse


class Closed(Exception):
    """The other side closed the connection in place of an answer."""


def our_hello(keys: NodeKeys, partner: Partner, now: int) -> Hello:
    """Return the hello that this node says to `partner`."""
    return Hello(PROTOCOL_VERSION, keys.peer_id, partner.peer_id, keys.key_record.revision, now)


async def say_hello(socket: Socket, ours: Hello, within_s: float) -> Hello:
    """Say hello as the side that dialled; return the other's, which takes a round trip.

    Raise Closed, TimeoutError, Refusal for a "no", RemoteProtocolError for a wrong answer.
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
        _check(theirs, ours)
    except RemoteProtocolError as error:
        refused = Refused(error.code, str(error), "Update the older node, or correct its address.")
        await socket.send_bytes(encode(refused, Kind.REFUSAL, HELLO_ID))
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


def _check(theirs: Hello, ours: Hello) -> None:
    if theirs.version != PROTOCOL_VERSION:
        msg = f"they speak version {theirs.version} of the protocol, this side {PROTOCOL_VERSION}"
        raise UnknownMessage(msg)
    if theirs.peer_id != ours.addressee:
        msg = "a hello names another facility than the certificate it comes with"
        raise WrongAddressee(msg)
    if theirs.addressee != ours.peer_id:
        msg = "a hello is meant for another facility"
        raise WrongAddressee(msg)
