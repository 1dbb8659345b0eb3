"""The blind question of a search, and the keys that answer it (RFC 9497 over match keys).

A searcher blinds its match keys, adds random points up to EVALUATION_POINTS per tier, and sends the
same bytes to every origin.  An origin multiplies each point by its key for each audience that the
asker belongs to, and learns nothing about them.  The asker finalizes what comes back into *outputs*
of 64 bytes: those that the origin derived for its own patients when it published them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from protocol import oprf
from protocol.errors import LocalProtocolError, Malformed
from protocol.hashing import derive
from protocol.identifiers import PEER_ID_BYTES
from protocol.limits import EVALUATION_BYTES, EVALUATION_POINTS

if TYPE_CHECKING:
    from collections.abc import Sequence

QUESTION_RANDOM_BYTES: Final = EVALUATION_POINTS * oprf.RANDOM_BYTES
"""Uniform bytes that the points of one tier consume."""

EVERYONE: Final = b""
"""The audience of every partner, present and future; any other audience is one facility's PeerId.

Never on the wire: only the origin knows for whom a record is.
"""

OUTPUT_BYTES: Final = 64
"""Nh of the ciphersuite (RFC 9497 section 4.1)."""

_KEY_INFO: Final = b"openpriors 1 search key"
_ORDER: Final = "openpriors 1 order of points"
_PADDING: Final = b"openpriors 1 padding"
"""What a random point is made of: under its random blind it is as uniform as any other."""


class Tier(IntEnum):
    """What a match key opens."""

    STRONG = 1
    """The record."""
    WEAK = 2
    """Only the notice that such a record may exist."""


@dataclass(frozen=True, slots=True)
class Question:
    """One tier of a search.  `points` (EVALUATION_BYTES) is sent, the rest stays with the asker.

    `inverses` undo the blinds: inverted once, they serve for the answers of every origin.
    `places`: where among the points each text stands.
    """

    points: bytes
    texts: tuple[str, ...] = field(repr=False)
    inverses: tuple[bytes, ...] = field(repr=False)
    places: tuple[int, ...] = field(repr=False)


def evaluation_key(master: bytes, tier: Tier, audience: bytes, key_epoch: int) -> bytes:
    """Return the origin's secret scalar for a tier, audience and key epoch (DeriveKeyPair).

    `master`: 32 secret bytes.  `audience`: EVERYONE or the PeerId of the one partner.
    """
    if len(audience) not in {0, PEER_ID_BYTES}:
        msg = "an audience is everyone or the identity of one facility"
        raise LocalProtocolError(msg)
    info = _KEY_INFO + bytes([tier]) + key_epoch.to_bytes(8, "big") + audience
    return oprf.derive_key(master, info)


def output(key: bytes, text: str) -> bytes:
    """Return the output (64 B) of the origin's own match key `text` under its scalar `key`."""
    return oprf.evaluate_directly(key, text.encode())


def ask(texts: Sequence[str], random: bytes) -> Question:
    """Return the question for up to EVALUATION_POINTS match keys of one tier, in random order.

    `random`: QUESTION_RANDOM_BYTES fresh uniform bytes, for this search only.
    """
    if len(texts) > EVALUATION_POINTS or len(random) != QUESTION_RANDOM_BYTES:
        msg = f"a search asks at most {EVALUATION_POINTS} keys with {QUESTION_RANDOM_BYTES} B"
        raise LocalProtocolError(msg)
    draws = [
        random[start : start + oprf.RANDOM_BYTES]
        for start in range(0, len(random), oprf.RANDOM_BYTES)
    ]
    blinds = tuple(map(oprf.scalar_from_random, draws))
    # By its place an origin could tell the padding, or spare the one point that finds it out.
    places = sorted(range(EVALUATION_POINTS), key=lambda each: derive(_ORDER, draws[each], 16))
    messages = [text.encode() for text in texts]
    messages += [_PADDING] * (EVALUATION_POINTS - len(messages))
    blinded = dict(zip(places, map(oprf.blind, messages, blinds), strict=True))
    points = b"".join(blinded[place] for place in range(EVALUATION_POINTS))
    inverses = tuple(map(oprf.inverse, blinds[: len(texts)]))
    return Question(points, tuple(texts), inverses, tuple(places[: len(texts)]))


def answer(key: bytes, points: bytes) -> bytes:
    """Return the evaluated points (EVALUATION_BYTES) under one scalar; raise Malformed."""
    return b"".join(oprf.evaluate(key, point) for point in _split(points))


def outputs(question: Question, answered: bytes) -> tuple[bytes, ...]:
    """Return the output (64 B) of each match key asked, in order; raise Malformed."""
    evaluated = _split(answered)
    return tuple(
        oprf.finalize(text.encode(), inverse, evaluated[place])
        for text, inverse, place in zip(
            question.texts, question.inverses, question.places, strict=True
        )
    )


def _split(points: bytes) -> list[bytes]:
    if len(points) != EVALUATION_BYTES:
        msg = f"the points of one tier are {EVALUATION_BYTES} bytes, not {len(points)}"
        raise Malformed(msg)
    return [
        points[start : start + oprf.ELEMENT_BYTES]
        for start in range(0, EVALUATION_BYTES, oprf.ELEMENT_BYTES)
    ]
