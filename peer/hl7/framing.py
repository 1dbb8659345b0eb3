"""The lower layer: where a message begins and ends (MLLP release 1, HL7 v2.5 appendix C).

A message that is too large is read on to its end and thrown away, but for its beginning: so its
sender can be told which one it was, and goes on with the next.
"""

from __future__ import annotations

import asyncio
from typing import Final

from peer.hl7.inbox import Arrived
from peer.hl7.message import HEADER

START: Final = b"\x0b"
END: Final = b"\x1c\x0d"

PIECE: Final = 64 * 1024
"""Bytes taken in at a time; a stream holds twice as many at most."""

HEAD: Final = HEADER
"""Bytes that are kept of a message that is too large: its MSH segment, to answer it."""

BETWEEN: Final = b"\r\n"
"""What senders put between messages although there is to be nothing."""


class NotFramed(Exception):
    """What comes is no MLLP: where a message begins or ends is not known any more."""


async def read_start(stream: asyncio.StreamReader) -> bool:
    """Wait for the beginning of a message; False at the end of the stream.  Raises NotFramed."""
    while True:
        byte = await stream.read(1)
        if byte == START:
            return True
        if not byte:
            return False
        if byte not in BETWEEN:
            raise NotFramed


async def read_rest(stream: asyncio.StreamReader, most: int) -> Arrived:
    """Return a message that has begun, without what frames it.  Raises NotFramed."""
    found = bytearray()
    whole, ended = True, False
    while not ended:
        try:
            piece = await stream.readuntil(END)
            ended = True
        except asyncio.LimitOverrunError as error:
            piece = await stream.readexactly(error.consumed)
        except asyncio.IncompleteReadError as error:
            raise NotFramed from error
        if len(found) + len(piece) > most + len(END):
            whole = False
        if whole:
            found += piece
        else:
            found += piece[:HEAD]
            del found[HEAD:]
    return Arrived(bytes(found).removesuffix(END), whole=whole)


def framed(block: bytes) -> bytes:
    """Return a message as it travels."""
    return START + block + END
