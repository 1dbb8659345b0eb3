"""Ranges of packs: what an origin hands out, and how it is fetched through a pooled session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeAlias

import aiohttp

from peer.link.state import NotConnected, NotReached
from peer.outbound import Proxy, explain
from peer.partners import Partner
from protocol.errors import Refusal, RemoteProtocolError, WrongContent
from protocol.limits import PIECE_BYTES
from protocol.messages import RangeBytes, ReadRange, Refused
from protocol.records import from_bytes

PARTIAL_CONTENT: Final = 206
_REFUSAL_BYTES: Final = 16 * 1024


PackReader: TypeAlias = Callable[[Partner, bytes, bytes, int, int], Awaitable[bytes]]
"""(partner, grant id, pack id, start, end) -> those bytes, at most PIECE_BYTES; Refusal for "no".
It is asked anew for each piece, so a revocation ends a download between two pieces."""


def pack_path(grant_id: bytes, pack_id: bytes) -> str:
    """Return the path under which a federation listener serves a pack."""
    return f"/v1/packs/{grant_id.hex()}/{pack_id.hex()}"


def read_pack_path(path: str) -> tuple[bytes, bytes]:
    """Return grant id and pack id from a path that `pack_path` made."""
    grant_id, pack_id = path.removeprefix("/v1/packs/").split("/")
    return bytes.fromhex(grant_id), bytes.fromhex(pack_id)


async def stream_range(
    session: aiohttp.ClientSession, url: str, start: int, end: int, silence_s: float, proxy: Proxy
) -> AsyncIterator[bytes]:
    """Yield bytes `start` to `end` (not included) of `url` in parts as they come.

    After `silence_s` without a byte it is over, to be resumed from where it stopped.  Raise Refusal
    for a "no", NotReached before the first piece if there is no way to the listener, NotConnected
    if the connection fails, WrongContent if the answer is not exactly that range.
    """
    try:
        async with session.get(
            url,
            headers={"Range": f"bytes={start}-{end - 1}"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=silence_s, sock_read=silence_s),
            allow_redirects=False,
            read_bufsize=PIECE_BYTES,
            **proxy.arguments,
        ) as response:
            if response.status != PARTIAL_CONTENT:
                raise _refusal(response.status, await response.content.read(_REFUSAL_BYTES))
            if response.content_length != end - start or not response.headers.get(
                "Content-Range", ""
            ).startswith(f"bytes {start}-{end - 1}/"):
                msg = "another range of a pack came than was asked for"
                raise WrongContent(msg)
            left = end - start
            while left:
                # As it was received: nothing is joined only to be cut again.
                part, _ = await response.content.readchunk()
                if not part and response.content.at_eof():
                    raise NotConnected("A download from the partner broke off. It is resumed.")
                left -= len(part)
                yield part
    except (
        aiohttp.ClientConnectorError,
        aiohttp.ClientHttpProxyError,
        aiohttp.ConnectionTimeoutError,
    ) as error:
        raise NotReached((await explain(error, url, proxy)).sentence) from error
    except (aiohttp.ClientError, EOFError, TimeoutError, RuntimeError) as error:
        # RuntimeError: aiohttp's word for reading on after the session was closed.
        raise NotConnected(
            f"A download from the partner broke off ({type(error).__name__}). It is resumed."
        ) from error


async def read_over_link(
    request: Callable[[object], Awaitable[object]], path: str, start: int, end: int
) -> AsyncIterator[bytes]:
    """Yield the same bytes as `stream_range`, asked for over the link one piece after the other."""
    grant_id, pack_id = read_pack_path(path)
    while start < end:
        length = min(end - start, PIECE_BYTES)
        answer = await request(ReadRange(grant_id, pack_id, start, length))
        if not isinstance(answer, RangeBytes) or len(answer.data) != length:
            msg = "another range of a pack came than was asked for"
            raise WrongContent(msg)
        start += length
        yield answer.data


async def answer_over_link(reader: PackReader, asked: ReadRange, partner: Partner) -> RangeBytes:
    """Return the answer to a range that is asked for over the link."""
    end = asked.start + asked.length
    return RangeBytes(await reader(partner, asked.grant_id, asked.pack_id, asked.start, end))


def _refusal(status: int, body: bytes) -> Refusal:
    try:
        refused = from_bytes(Refused, body, _REFUSAL_BYTES)
    except RemoteProtocolError:
        return Refusal("unexpected-answer", f"The partner answers with HTTP status {status}.")
    return Refusal(refused.code, refused.reason, refused.remedy)
