"""Pairing: how two facilities that trust no third become partners.

    joiner                                   inviter
      Join    record, terms, commitment  ->
              (proved with the secret)   <-    Joined   record, terms, nonce (proved likewise)
      Reveal  nonce (signed)             ->
        --- both screens show six words; two people compare them by telephone and confirm ---
      Agreed  signature                 <->    Agreed   signature

The words depend on both root keys, both nonces and everything said before.  The joiner is bound to
its nonce by the commitment before it sees the inviter's, and the inviter sends its own before it
sees the joiner's: whoever sits in the middle cannot search for nonces that make the words agree.

Each side is a value: `Offer` (an invitation at the inviter) and `Pairing` (after the words).  The
functions take a state and a message and return the next state and the answer.  What the rules of
the house refuse is a Refusal; what no honest program sends is a RemoteProtocolError.
Specification: docs/protocol/pairing.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from hmac import compare_digest
from typing import Annotated, Final

from protocol.agreement import (
    AGREEMENT_BYTES,
    AGREEMENT_DOMAIN,
    PeeringAgreement,
    TermsBytes,
    read_terms,
)
from protocol.errors import (
    BadSignature,
    Expired,
    LocalProtocolError,
    Refusal,
    UnknownMessage,
    WrongAddressee,
)
from protocol.hashing import derive, keyed, tagged
from protocol.identifiers import PeerId
from protocol.invitation import SECRET_BYTES, Invitation
from protocol.keyrecord import KeyRecord, SignedKeyRecord, record_hash, verify_record
from protocol.limits import (
    CLOCK_SKEW_S,
    INVITATION_ATTEMPTS,
    PROTOCOL_VERSION,
)
from protocol.records import (
    Hash,
    Id16,
    Instant,
    Key,
    Natural,
    Signature,
    Size,
    from_bytes,
    to_bytes,
)
from protocol.signing import SIGNATURE_BYTES, sign, verify

REVEAL_DOMAIN: Final = "pairing"

WORDS: Final = 6
WORD_BITS: Final = 11
"""A BIP-39 list has 2048 words: six of them are 66 bits."""

_JOIN: Final = b"\x22"
_JOINED: Final = b"\x23"
_PAIRING: Final = b"\x24"
_NONCE: Final = b"\x25"
_TERMS: Final = b"\x26"
_PROOF: Final = "openpriors 1 pairing secret"
_WORDS: Final = "openpriors 1 pairing words"
_ENTROPY_BYTES: Final = 9
_ASK_AGAIN: Final = "Ask the other side for a new invitation."


# -- what is said ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Side:
    """What one facility brings to a pairing: its key record and its Terms, as bytes."""

    record: SignedKeyRecord
    terms: TermsBytes


@dataclass(frozen=True, slots=True)
class Join:
    """First message, from the joiner; `proof` is made with the secret of the invitation."""

    version: Natural
    invitation_id: Id16
    side: Side
    commitment: Hash
    proof: Hash


@dataclass(frozen=True, slots=True)
class Joined:
    """The inviter's answer; `made_at` becomes the date of the agreement."""

    version: Natural
    side: Side
    nonce: Key
    made_at: Instant
    proof: Hash


@dataclass(frozen=True, slots=True)
class Reveal:
    """The joiner opens its commitment; the node key of its record signs the pairing."""

    invitation_id: Id16
    nonce: Key
    signature: Signature


@dataclass(frozen=True, slots=True)
class Agreed:
    """`author`'s signature of the agreement, or none yet; sent and answered by both sides."""

    pairing_id: Hash
    author: Key
    signature: Annotated[bytes, Size(0, SIGNATURE_BYTES)]


# -- states ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offer:
    """An invitation at the inviter.  `pairing_id`: set once its one proof is completed."""

    invitation_id: Id16
    secret: Annotated[bytes, Size(SECRET_BYTES, SECRET_BYTES)]
    expires_at: Instant
    attempts: Natural = 0
    join: Join | None = None
    joined: Joined | None = None
    pairing_id: Hash | None = None


class Stage(Enum):
    """Whose confirmation a pairing waits for."""

    BOTH = "both"
    US = "us"
    THEM = "them"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class Pairing:
    """A pairing whose words are known, as one side holds it; signatures are empty until given."""

    pairing_id: Hash
    me: Key
    partner: Key
    partner_record: SignedKeyRecord
    agreement: Annotated[bytes, Size(1, AGREEMENT_BYTES)]
    entropy: Annotated[bytes, Size(_ENTROPY_BYTES, _ENTROPY_BYTES)]
    my_signature: Annotated[bytes, Size(0, SIGNATURE_BYTES)] = b""
    their_signature: Annotated[bytes, Size(0, SIGNATURE_BYTES)] = b""

    @property
    def stage(self) -> Stage:
        """Whose confirmation is missing."""
        if self.my_signature:
            return Stage.COMPLETE if self.their_signature else Stage.THEM
        return Stage.US if self.their_signature else Stage.BOTH


# -- before the words -----------------------------------------------------------------------------


def open_offer(invitation: Invitation) -> Offer:
    """Return the state in which the inviter keeps an invitation that it gives away."""
    return Offer(invitation.invitation_id, invitation.secret, invitation.expires_at)


def begin_join(invitation: Invitation, me: Side, nonce: bytes) -> Join:
    """Return the joiner's first message.  `nonce`: 32 fresh random bytes, kept until Reveal."""
    bare = Join(PROTOCOL_VERSION, invitation.invitation_id, me, tagged(_NONCE, nonce), bytes(32))
    return replace(bare, proof=_proof(invitation.secret, _join_hash(bare)))


def receive_join(
    offer: Offer, join: Join, me: Side, nonce: bytes, now: int
) -> tuple[Offer, Joined]:
    """Return the inviter's next state and answer.  `nonce`: 32 fresh random bytes.

    A later Join replaces an unfinished one: a dropped connection does not burn the invitation.
    """
    _check_open(offer, now)
    if offer.attempts >= INVITATION_ATTEMPTS:
        raise Refusal(
            "invitation-exhausted", "Too many attempts were made with this invitation.", _ASK_AGAIN
        )
    if join.version != PROTOCOL_VERSION:
        msg = f"a pairing of version {join.version}; this side speaks {PROTOCOL_VERSION}"
        raise UnknownMessage(msg)
    if not compare_digest(join.proof, _proof(offer.secret, _join_hash(join))):
        msg = "the sender of a join does not know the secret of the invitation"
        raise BadSignature(msg)
    _check_sides(verify_record(me.record), verify_record(join.side.record))
    read_terms(join.side.terms)
    bare = Joined(PROTOCOL_VERSION, me, nonce, now, bytes(32))
    joined = replace(bare, proof=_proof(offer.secret, _joined_hash(join, bare)))
    return replace(offer, attempts=offer.attempts + 1, join=join, joined=joined), joined


def receive_joined(
    invitation: Invitation, join: Join, nonce: bytes, joined: Joined, node_seed: bytes, now: int
) -> tuple[Pairing, Reveal]:
    """Return the joiner's pairing and its last message before the words are compared."""
    if joined.version != PROTOCOL_VERSION:
        msg = f"a pairing of version {joined.version}; this side speaks {PROTOCOL_VERSION}"
        raise UnknownMessage(msg)
    if not compare_digest(joined.proof, _proof(invitation.secret, _joined_hash(join, joined))):
        msg = "the answer to a join does not come from a holder of the invitation's secret"
        raise BadSignature(msg)
    inviter = verify_record(joined.side.record, PeerId(invitation.peer_id))
    _check_sides(inviter, verify_record(join.side.record))
    read_terms(joined.side.terms)
    if abs(joined.made_at - now) > CLOCK_SKEW_S:
        msg = "the clocks of both facilities differ by more than ten minutes; set them right"
        raise Expired(msg)
    pairing = _pairing(join, joined, nonce, invited=False)
    signature = sign(node_seed, REVEAL_DOMAIN, pairing.pairing_id)
    return pairing, Reveal(invitation.invitation_id, nonce, signature)


def receive_reveal(offer: Offer, reveal: Reveal, now: int) -> tuple[Offer, Pairing]:
    """Return the inviter's next state and its pairing; the invitation is used up by it.

    The same Reveal again is answered in the same way, because its answer may have been lost.
    """
    if offer.join is None or offer.joined is None:
        raise Refusal(
            "pairing-unknown",
            "This pairing was not begun, or another attempt took its place.",
            "Paste the invitation again.",
        )
    pairing = _pairing(offer.join, offer.joined, reveal.nonce, invited=True)
    if offer.pairing_id is not None and offer.pairing_id != pairing.pairing_id:
        _check_open(offer, now)
    if tagged(_NONCE, reveal.nonce) != offer.join.commitment:
        msg = "a pairing's nonce is not the one that was committed to"
        raise BadSignature(msg)
    joiner = verify_record(offer.join.side.record)
    verify(joiner.node_public, REVEAL_DOMAIN, pairing.pairing_id, reveal.signature)
    if offer.pairing_id is not None:
        return offer, pairing
    _check_open(offer, now)
    return replace(offer, secret=bytes(SECRET_BYTES), pairing_id=pairing.pairing_id), pairing


# -- the words and after --------------------------------------------------------------------------


def words(pairing: Pairing, word_list: Sequence[str]) -> tuple[str, ...]:
    """Return the WORDS words that both screens show, from a list of 2048."""
    if len(word_list) != 1 << WORD_BITS:
        msg = f"a word list has {1 << WORD_BITS} words"
        raise LocalProtocolError(msg)
    number = int.from_bytes(pairing.entropy, "big") >> (8 * _ENTROPY_BYTES - WORDS * WORD_BITS)
    mask = (1 << WORD_BITS) - 1
    return tuple(word_list[number >> WORD_BITS * i & mask] for i in reversed(range(WORDS)))


def confirm(pairing: Pairing, node_seed: bytes) -> Pairing:
    """Return the pairing with our signature: a person here has compared the words."""
    signature = sign(node_seed, AGREEMENT_DOMAIN, pairing.agreement)
    confirmed = replace(pairing, my_signature=signature)
    _verify_agreed(confirmed, pairing.me, signature)
    return confirmed


def agreed(pairing: Pairing) -> Agreed:
    """Return our half of the agreement as it is sent: signed, or still without signature."""
    return Agreed(pairing.pairing_id, pairing.me, pairing.my_signature)


def receive_agreed(pairing: Pairing, message: Agreed) -> Pairing:
    """Return the pairing with the partner's signature, if the message carries it."""
    if message.pairing_id != pairing.pairing_id or message.author != pairing.partner:
        msg = "an agreement names another pairing or another author"
        raise WrongAddressee(msg)
    if not message.signature:
        return pairing
    _verify_agreed(pairing, pairing.partner, message.signature)
    return replace(pairing, their_signature=message.signature)


def agreement_of(pairing: Pairing) -> PeeringAgreement:
    """Return the agreement that both sign."""
    return from_bytes(PeeringAgreement, pairing.agreement, AGREEMENT_BYTES)


# -- parts ----------------------------------------------------------------------------------------


def _check_open(offer: Offer, now: int) -> None:
    if offer.pairing_id is not None:
        raise Refusal("invitation-used", "This invitation has been used already.", _ASK_AGAIN)
    if now >= offer.expires_at:
        raise Refusal("invitation-expired", "This invitation has expired.", _ASK_AGAIN)


def _check_sides(inviter: KeyRecord, joiner: KeyRecord) -> None:
    if inviter.peer_id == joiner.peer_id:
        raise Refusal(
            "own-invitation",
            "This invitation was made by this very facility.",
            "Give it to the other facility; it is pasted there.",
        )
    if not inviter.federation_url and not joiner.federation_url:
        raise Refusal(
            "both-outbound-only",
            "Neither facility can be reached from outside, so no connection could be made.",
            "Give one of them a public address (federation.public_url) and pair again.",
        )


def _proof(secret: bytes, transcript: bytes) -> bytes:
    return keyed(derive(_PROOF, secret), transcript)


def _side_hash(side: Side) -> bytes:
    return record_hash(side.record) + tagged(_TERMS, side.terms)


def _join_hash(join: Join) -> bytes:
    version = join.version.to_bytes(8, "big")
    return tagged(_JOIN, version, join.invitation_id, join.commitment, _side_hash(join.side))


def _joined_hash(join: Join, joined: Joined) -> bytes:
    version, made_at = joined.version.to_bytes(8, "big"), joined.made_at.to_bytes(8, "big")
    return tagged(
        _JOINED, version, _join_hash(join), joined.nonce, made_at, _side_hash(joined.side)
    )


def _pairing(join: Join, joined: Joined, nonce: bytes, *, invited: bool) -> Pairing:
    transcript = _joined_hash(join, joined)
    inviter, joiner = verify_record(joined.side.record), verify_record(join.side.record)
    pairing_id = tagged(_PAIRING, transcript, nonce)
    agreement = PeeringAgreement(
        version=PROTOCOL_VERSION,
        pairing_id=pairing_id,
        made_at=joined.made_at,
        inviter=inviter.peer_id,
        joiner=joiner.peer_id,
        inviter_record=record_hash(joined.side.record),
        joiner_record=record_hash(join.side.record),
        inviter_node=inviter.node_public,
        joiner_node=joiner.node_public,
        inviter_terms=joined.side.terms,
        joiner_terms=join.side.terms,
    )
    material = inviter.peer_id + joiner.peer_id + joined.nonce + nonce + transcript
    ours, theirs = (joined, join) if invited else (join, joined)
    return Pairing(
        pairing_id=pairing_id,
        me=verify_record(ours.side.record).peer_id,
        partner=verify_record(theirs.side.record).peer_id,
        partner_record=theirs.side.record,
        agreement=to_bytes(agreement),
        entropy=derive(_WORDS, material, _ENTROPY_BYTES),
    )


def _verify_agreed(pairing: Pairing, author: bytes, signature: bytes) -> None:
    agreement = agreement_of(pairing)
    node_key = agreement.inviter_node if author == agreement.inviter else agreement.joiner_node
    verify(node_key, AGREEMENT_DOMAIN, pairing.agreement, signature)
