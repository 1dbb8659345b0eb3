"""Opening a link: one attempt, whose failure is named so that a person knows what to do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import aiohttp

from peer.config import Link
from peer.keys import NodeKeys
from peer.keys.tls import partner_context
from peer.link import state
from peer.link.connection import CLOSE_S, SOCKET_BYTES, Connection
from peer.link.greeting import Closed, our_hello, say_hello
from peer.outbound import INSPECTED, NO_ANSWER, Proxy, explain
from peer.partners import Partner
from protocol.errors import Refusal, RemoteProtocolError
from protocol.messages import Hello
from protocol.versions import OURS, Versions

LINK_PATH: Final = "/v1/link"
_ACCEPT: Final = (
    "They have not accepted you (yet), or have ended the partnership. "
    "Ask them to confirm on their side."
)


@dataclass(frozen=True, slots=True)
class DialFailed(Exception):
    """An attempt that did not lead to a link; `sentence` is cause and remedy."""

    code: str
    sentence: str


def new_session(keys: NodeKeys, partner: Partner, settings: Link) -> aiohttp.ClientSession:
    """Return the pooled session for one partner: pinned to its certificate, showing ours."""
    context = partner_context(keys, partner.record.tls_certificate)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )


async def dial(
    session: aiohttp.ClientSession,
    keys: NodeKeys,
    partner: Partner,
    now: int,
    settings: Link,
    proxy: Proxy,
    speaks: Versions = OURS,
) -> tuple[Connection, Hello]:
    """Return a link to `partner` and its hello; raise DialFailed."""
    if keys.are_retired:
        raise DialFailed(state.KEYS_RETIRED, state.KEYS_RETIRED_SENTENCE)
    url = partner.record.federation_url
    if not url:
        raise DialFailed(
            state.OUTBOUND_ONLY,
            "They cannot be reached from outside; their node connects to this one.",
        )
    socket = await _connect(session, url, settings, proxy)
    try:
        ours = our_hello(keys, partner, now, speaks)
        theirs = await say_hello(socket, ours, settings.hello_s)
    except (Closed, aiohttp.ClientError, ConnectionError) as error:
        await socket.close()
        raise DialFailed(state.NOT_ACCEPTED, _ACCEPT) from error
    except TimeoutError as error:
        await socket.close()
        raise DialFailed(
            NO_ANSWER, f"{url} took the connection and says nothing. Try again later."
        ) from error
    except Refusal as refusal:
        await socket.close()
        raise DialFailed(refusal.code, f"{refusal.reason} {refusal.remedy}".rstrip()) from refusal
    except RemoteProtocolError as error:
        await socket.close()
        sentence = f"The first words did not fit: {error}."
        raise DialFailed(error.code, sentence) from error
    certificate = partner.record.tls_certificate
    return Connection(socket, partner.peer_id, keys.peer_id, certificate, settings), theirs


async def _connect(
    session: aiohttp.ClientSession, url: str, settings: Link, proxy: Proxy
) -> aiohttp.ClientWebSocketResponse:
    """Return a WebSocket to the listener at `url`; raise DialFailed."""
    try:
        async with asyncio.timeout(settings.open_s):
            socket: aiohttp.ClientWebSocketResponse = await session.ws_connect(
                url + LINK_PATH,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
                heartbeat=settings.heartbeat_s,
                autoping=False,
                max_msg_size=SOCKET_BYTES,
                **proxy.arguments,
            )
            return socket
    except aiohttp.WSServerHandshakeError as error:
        if error.status == HTTPStatus.FORBIDDEN:
            raise DialFailed(state.NOT_ACCEPTED, _ACCEPT) from error
        raise DialFailed(
            state.NO_LINK_THERE,
            f"{url} answers with HTTP status {error.status}: it is no federation listener. "
            "Check the address in their key record.",
        ) from error
    except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, TimeoutError) as error:
        failure = await explain(error, url, proxy)
        raise DialFailed(failure.code, failure.sentence) from error
    except (aiohttp.ClientError, AssertionError, RuntimeError) as error:
        if isinstance(error.__cause__, ConnectionResetError):
            failure = await explain(error, url, proxy)
            if failure.code == INSPECTED:
                raise DialFailed(failure.code, failure.sentence) from error
        # The handshake went well and the connection was closed in place of an answer: in TLS 1.3
        # that is how a refused certificate looks from here.  AssertionError and RuntimeError are
        # aiohttp's words for a connection that was closed between its answer and our taking it,
        # and for a session that was closed because the partner was removed or has new keys.
        raise DialFailed(state.NOT_ACCEPTED, _ACCEPT) from error
