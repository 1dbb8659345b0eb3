"""Forks: an origin that tells two histories convicts itself with its own signatures."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.entries import Header, SignedHeader, header_hash, read_header
from protocol.errors import Forked, Malformed
from protocol.limits import HEADER_BYTES
from protocol.nodekeys import NodeKeys
from protocol.records import from_bytes


@dataclass(frozen=True, slots=True)
class ForkProof:
    """Two validly signed headers that no honest origin signs both (`verify_fork`)."""

    first: SignedHeader
    second: SignedHeader


class ForkFound(Forked):
    """A fork, with its proof."""

    def __init__(self, proof: ForkProof) -> None:
        super().__init__("the origin signed two histories; the proof is kept, ask the facility")
        self.proof = proof


def place_of(proof: ForkProof) -> tuple[int, int]:
    """Return (epoch, batch) from which on the histories of a verified proof differ."""
    first = from_bytes(Header, proof.first.header, HEADER_BYTES)
    return first.epoch, first.batch


def verify_fork(proof: ForkProof, origin: bytes, keys: NodeKeys) -> tuple[int, int]:
    """Return (epoch, batch) of the fork that a proof shows, or raise Malformed or BadSignature.

    Two headers of one epoch prove a fork if they are different bytes for one batch number, or if
    the second has the next number and does not name the first as the one before it.
    """
    first = read_header(proof.first, origin, keys)
    second = read_header(proof.second, origin, keys)
    same = first.batch == second.batch and proof.first.header != proof.second.header
    unlinked = second.batch == first.batch + 1 and second.previous != header_hash(
        proof.first.header
    )
    if first.epoch != second.epoch or not (same or unlinked):
        msg = "two headers that one history can contain prove no fork"
        raise Malformed(msg)
    return first.epoch, first.batch
