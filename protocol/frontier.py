"""What of whose journal a facility holds, and how long that vouches for anything."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from protocol.identifiers import PeerId
from protocol.journal import Head
from protocol.limits import CLOCK_SKEW_S
from protocol.messages import HaveBody, OriginHead


def is_fresh(head: Head | None, now: int) -> bool:
    """Return whether a head still vouches for its journal at `now`, by this side's clock.

    Past the lease nothing of the origin is listed: a withdrawal may have been withheld.  A head
    dated more than CLOCK_SKEW_S ahead vouches for nothing either, so that no origin can stretch a
    lease with its clock.
    """
    return head is not None and head.issued_at <= now + CLOCK_SKEW_S and now < head.fresh_until


def origin_head(origin: PeerId, head: Head, *, joining: bool = False) -> OriginHead:
    """Return how a HAVE states that `head` of `origin`'s journal is held.

    A head that is being joined acknowledges nothing: withdrawals before it may be lacking.
    """
    last_seq = 0 if joining else head.last_seq
    return OriginHead(origin, head.epoch, head.batch, head.header_hash, last_seq)


def have_body(
    author: PeerId,
    addressee: PeerId,
    held: Mapping[PeerId, Head | None],
    now: int,
    joining: Collection[PeerId] = (),
    early: OriginHead | None = None,
) -> HaveBody:
    """Return the body of a HAVE, in the order of the origins' ids; `joining`: whose are joined.

    `early` stands for the head of its origin, if it is ahead of it: an origin that has lost what it
    signed must learn of every header that somebody could show.
    """
    heads = {
        origin: origin_head(origin, head, joining=origin in joining)
        for origin, head in held.items()
        if head
    }
    if early is not None and is_ahead(early, held.get(PeerId(early.origin))):
        heads[PeerId(early.origin)] = early
    return HaveBody(author, addressee, now, tuple(heads[origin] for origin in sorted(heads)))


def claimed(body: HaveBody, origin: PeerId) -> OriginHead | None:
    """Return what a HAVE says of one origin, None if it says nothing."""
    return next((head for head in body.heads if head.origin == origin), None)


def is_ahead(claim: OriginHead | None, head: Head | None) -> bool:
    """Return whether a claim names batches beyond `head`, or another batch in its place.

    The latter is a fork, or a lie: either shows when that batch is asked for.
    """
    if claim is None:
        return False
    if head is None:
        return True
    if (claim.epoch, claim.batch) == (head.epoch, head.batch):
        return claim.header_hash != head.header_hash
    return (claim.epoch, claim.batch) > (head.epoch, head.batch)


def next_batch(claim: OriginHead, head: Head | None) -> int:
    """Return the batch number from which to ask an author of `claim` for what `head` lacks."""
    return 0 if head is None else min(head.batch + 1, claim.batch)
