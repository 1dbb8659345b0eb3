"""Search keys that an origin hands to one partner, which then need not ask it: delegated mode.

The origin signs the scalars of the two audiences to which the partner belongs, in their present key
epochs and in past ones that are not over, and seals them to it.  The partner makes the same outputs
with them as by asking, at once and while the origin is offline.  No keys means that it is to ask
again.  There is no message that asks for keys.  Specification: docs/protocol/digest.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final

from protocol import evaluation, oprf
from protocol.errors import Expired, Malformed, UnknownMessage
from protocol.evaluation import EVERYONE, Tier
from protocol.identifiers import PeerId
from protocol.limits import CLOCK_SKEW_S, KEY_EPOCHS, PROTOCOL_VERSION, STATEMENT_BYTES
from protocol.records import Instant, Key, Natural, Size, from_bytes, to_bytes
from protocol.sealing import seal, unseal
from protocol.statements import Statement, open_addressed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DELEGATION_DOMAIN: Final = "search-keys"
_BOX: Final = b"openpriors/1 search keys"
"""The box's associated data."""


@dataclass(frozen=True, slots=True)
class AudienceKeys:
    """The origin's secret scalars for one audience in a key epoch, one for each tier."""

    key_epoch: Natural
    strong: Key = field(repr=False)
    weak: Key = field(repr=False)


@dataclass(frozen=True, slots=True)
class DelegationBody:
    """What the origin signs.  `keys`: pairs as in `Evaluated`, the present one first; or none."""

    version: Natural
    author: Key
    addressee: Key
    issued_at: Instant
    keys: Annotated[tuple[AudienceKeys, ...], Size(0, 2 * KEY_EPOCHS)]


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a question comes to at one origin: the outputs (64 B each) of its match keys.

    `strong` and `weak` are those of both audiences; `canary` is the one of everyone's strong key,
    in everyone's `key_epoch`.
    """

    strong: tuple[bytes, ...]
    weak: tuple[bytes, ...]
    key_epoch: int
    canary: bytes


def keys_for(
    master: bytes, partner: PeerId, epochs: Sequence[tuple[int, int]]
) -> tuple[AudienceKeys, ...]:
    """Return the keys of the audiences that `partner` belongs to.

    `epochs`: pairs of key epochs, everyone's and the partner's own, the present one first.
    """
    return tuple(
        AudienceKeys(
            epoch,
            evaluation.evaluation_key(master, Tier.STRONG, audience, epoch),
            evaluation.evaluation_key(master, Tier.WEAK, audience, epoch),
        )
        for everyone, own in epochs
        for audience, epoch in ((EVERYONE, everyone), (bytes(partner), own))
    )


def seal_keys(
    recipient: bytes,
    ephemeral_secret: bytes,
    body: DelegationBody,
    sign: Callable[[bytes], bytes],
) -> bytes:
    """Return the signed keys in a box for the holder of the X25519 key `recipient`.

    `sign` signs in the domain "search-keys".  `ephemeral_secret`: 32 fresh random bytes.
    """
    payload = to_bytes(body)
    return seal(recipient, ephemeral_secret, to_bytes(Statement(payload, sign(payload))), _BOX)


def open_keys(
    secret: bytes, box: bytes, *, key: bytes, author: bytes, me: bytes, now: int
) -> DelegationBody:
    """Return the keys in a box sealed to us; raise RemoteProtocolError.

    Besides what `open_addressed` raises, Expired for a box older than CLOCK_SKEW_S, so that keys
    that were taken back do not return; Malformed unless the keys are scalars for two audiences in
    each epoch, or none.
    """
    statement = from_bytes(Statement, unseal(secret, box, _BOX), STATEMENT_BYTES)
    body = open_addressed(
        statement, DELEGATION_DOMAIN, DelegationBody, key=key, author=author, me=me, now=now
    )
    if body.version != PROTOCOL_VERSION:
        msg = f"search keys of version {body.version}; this side speaks {PROTOCOL_VERSION}"
        raise UnknownMessage(msg)
    if body.issued_at < now - CLOCK_SKEW_S:
        msg = "search keys were sealed more than ten minutes ago; compare the clocks"
        raise Expired(msg)
    scalars = [scalar for each in body.keys for scalar in (each.strong, each.weak)]
    if len(body.keys) % 2 or not all(map(oprf.is_scalar, scalars)):
        msg = "search keys are those of two audiences, or none"
        raise Malformed(msg)
    return body


def outputs(
    keys: Sequence[AudienceKeys], strong: Sequence[str], weak: Sequence[str], canary: str
) -> Outputs:
    """Return what an origin would have answered to these match keys, made with its own keys."""
    once = dict.fromkeys(keys)  # A present key may also stand beside a past one.
    return Outputs(
        tuple(evaluation.output(each.strong, text) for each in once for text in strong),
        tuple(evaluation.output(each.weak, text) for each in once for text in weak),
        keys[0].key_epoch,
        evaluation.output(keys[0].strong, canary),
    )
