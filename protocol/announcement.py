"""The key with which an origin answers searches, announced in its journal: the canary.

An origin that answered with another key than the one with which it publishes would have answered,
and nothing of its would be found.  So the output of one fixed input stands in its journal, and
every search asks for that input as well, blinded like all others: the origin cannot tell which of
the points it is.  Specification: docs/protocol/digest.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from protocol import evaluation
from protocol.digest import FILLER_STUDY_BODY, LABEL_BYTES, VERSION, BodyKind
from protocol.errors import Malformed
from protocol.hashing import derive

CANARY: Final = "openpriors 1 canary"
"""The fixed input.  No match key begins like it."""

LABEL: Final = derive("openpriors 1 key announcement label", b"", LABEL_BYTES)
"""Where the announcement is looked up, in every journal."""

_EPOCH_BYTES: Final = 8
_HEAD: Final = bytes([VERSION, BodyKind.KEYS]) + LABEL


class CanarySaid(StrEnum):
    """What the canary says of an answer."""

    RIGHT = ""
    """It was made with the announced key."""
    UNANNOUNCED = "unannounced"
    """The key of its epoch is not announced in what is held of the journal."""
    WRONG = "wrong-key"


@dataclass(frozen=True, slots=True)
class KeyAnnouncement:
    """The output of CANARY (64 B) under the strong key of everyone's audience in a key epoch."""

    key_epoch: int
    output: bytes


def announce(master: bytes, key_epoch: int) -> bytes:
    """Return the body that announces the key of an epoch.  `master`: 32 secret bytes."""
    key = evaluation.evaluation_key(master, evaluation.Tier.STRONG, evaluation.EVERYONE, key_epoch)
    output = evaluation.output(key, CANARY)
    body = _HEAD + key_epoch.to_bytes(_EPOCH_BYTES, "big") + output
    return body.ljust(FILLER_STUDY_BODY, b"\0")


def read_announcement(body: bytes) -> KeyAnnouncement:
    """Return what a body announces; raise Malformed."""
    output_at = len(_HEAD) + _EPOCH_BYTES
    end = output_at + evaluation.OUTPUT_BYTES
    if len(body) != FILLER_STUDY_BODY or not body.startswith(_HEAD) or any(body[end:]):
        msg = "this entry does not announce a key"
        raise Malformed(msg)
    epoch = int.from_bytes(body[len(_HEAD) : output_at], "big")
    return KeyAnnouncement(epoch, body[output_at:end])


def judge(announced: KeyAnnouncement | None, key_epoch: int, output: bytes) -> CanarySaid:
    """Return what an answer under the key of `key_epoch` is worth, by the canary's `output`.

    `announced`: what the journal announces now, as far as it is held.
    """
    if announced is None or announced.key_epoch != key_epoch:
        return CanarySaid.UNANNOUNCED
    return CanarySaid.RIGHT if announced.output == output else CanarySaid.WRONG
