"""The invitation: the one string that leads a new partner to a facility.

    openpriors1:BASE32(record ‖ check)

`record` is an Invitation, `check` the first CHECK_BYTES of a hash over prefix and record, so that a
mistyped or half-copied string is recognised before anything is dialled.  Case, blanks and line ends
do not matter.  Whoever holds the string may try to pair, which is why six words are compared after.
"""

from __future__ import annotations

import binascii
from base64 import b32decode, b32encode
from dataclasses import dataclass
from typing import Annotated, Final

from protocol.errors import Expired, Malformed, UnknownMessage
from protocol.hashing import derive, tagged
from protocol.keyrecord import is_url
from protocol.limits import (
    INVITATION_CHARACTERS,
    INVITATION_URLS,
    PROTOCOL_VERSION,
    URL_CHARACTERS,
)
from protocol.records import Instant, Key, Natural, Size, from_bytes, to_bytes

PREFIX: Final = "openpriors1:"
SECRET_BYTES: Final = 16
CHECK_BYTES: Final = 4

_CHECK: Final = b"\x21"
_ID: Final = "openpriors 1 pairing invitation"


@dataclass(frozen=True, slots=True)
class Invitation:
    """Where to go, whom to expect there, and the secret that proves having been invited."""

    version: Natural
    peer_id: Key
    secret: Annotated[bytes, Size(SECRET_BYTES, SECRET_BYTES)]
    expires_at: Instant
    urls: Annotated[
        tuple[Annotated[str, Size(1, URL_CHARACTERS)], ...],
        Size(1, INVITATION_URLS),
    ]

    @property
    def invitation_id(self) -> bytes:
        """The 16 bytes by which the parties name it without telling the secret."""
        return derive(_ID, self.secret, 16)


def write_invitation(invitation: Invitation) -> str:
    """Return the string that `read_invitation` reads."""
    record = to_bytes(invitation)
    return PREFIX + b32encode(record + _check(record)).decode("ascii").rstrip("=").lower()


def read_invitation(text: str, now: int) -> Invitation:
    """Return the invitation that a person pasted.

    Raise Malformed if it is none or damaged, UnknownMessage if a newer release wrote it, and
    Expired if it is over at `now`.
    """
    invitation = _parse(text)
    if invitation.version != PROTOCOL_VERSION:
        msg = "this invitation was written by another release; update the older of both nodes"
        raise UnknownMessage(msg)
    if not all(is_url(url) for url in invitation.urls):
        msg = "an address in this invitation is not https://host:port"
        raise Malformed(msg)
    if now >= invitation.expires_at:
        msg = "this invitation has expired; ask the other side for a new one"
        raise Expired(msg)
    return invitation


def _parse(text: str) -> Invitation:
    compact = "".join(text[:INVITATION_CHARACTERS].split()).lower()
    if not compact.startswith(PREFIX):
        msg = f"an invitation begins with {PREFIX} ; copy the whole string"
        raise Malformed(msg)
    body = compact.removeprefix(PREFIX).upper()
    damaged = "this invitation is damaged: characters are missing or wrong; copy it again"
    try:
        data = b32decode(body + "=" * (-len(body) % 8))
    except (binascii.Error, ValueError) as error:
        raise Malformed(damaged) from error
    record, check = data[:-CHECK_BYTES], data[-CHECK_BYTES:]
    if check != _check(record):
        raise Malformed(damaged)
    return from_bytes(Invitation, record, INVITATION_CHARACTERS)


def _check(record: bytes) -> bytes:
    return tagged(_CHECK, record)[:CHECK_BYTES]
