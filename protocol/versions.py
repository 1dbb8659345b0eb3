"""Which version of the protocol a link speaks: the highest that both sides know.

Each side names a range in its hello.  Without a common version there is no link, and the operator
of the older side must read that it is the older one: only they can do something about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocol.errors import Malformed, Refusal
from protocol.limits import OLDEST_VERSION, PROTOCOL_VERSION

NO_COMMON_VERSION: Final = "no-common-version"


@dataclass(frozen=True, slots=True)
class Versions:
    """What one side speaks, from `oldest` to `newest`, both included."""

    oldest: int
    newest: int


OURS: Final = Versions(OLDEST_VERSION, PROTOCOL_VERSION)


def common_version(reader: Versions, other: Versions) -> int:
    """Return the highest version of both.

    If there is none, raise the Refusal that is meant for the operator of `reader`.  Raise Malformed
    for a range without a version.
    """
    if not 1 <= other.oldest <= other.newest:
        msg = "a hello names no version of the protocol"
        raise Malformed(msg)
    best = min(reader.newest, other.newest)
    if best >= max(reader.oldest, other.oldest):
        return best
    if reader.newest < other.oldest:
        raise Refusal(
            NO_COMMON_VERSION,
            f"This node is too old for the partner's: it speaks the protocol up to version "
            f"{reader.newest}, theirs from version {other.oldest} on.",
            "Update this node.",
        )
    raise Refusal(
        NO_COMMON_VERSION,
        f"The partner's node is too old for this one: it speaks the protocol up to version "
        f"{other.newest}, this one from version {reader.oldest} on.",
        "Ask their operator to update it; nothing passes between you until then.",
    )
