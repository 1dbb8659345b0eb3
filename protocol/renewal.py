"""What each end of a link has signed that it holds, and how that is renewed without signing it.

In a link at rest the two ends tell each other a hash over what they hold.  It stands for no new
statement: it renews the last signed HAVE, if it is the hash of what that one said.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from protocol.errors import Replayed
from protocol.frontier import claimed
from protocol.hashing import HOLDING, tagged
from protocol.identifiers import PeerId
from protocol.limits import EXCHANGED_S, HAVE_S
from protocol.messages import HaveBody, OriginHead
from protocol.records import to_bytes

Heads = Mapping[PeerId, OriginHead]

RENEWED_S: Final = HAVE_S + EXCHANGED_S
"""A signed HAVE is renewed for so long: its author signs another one by then, and may be late."""


def holding_digest(author: PeerId, addressee: PeerId, heads: Heads) -> bytes:
    """Return the hash, 32 B, by which `author` tells `addressee` that it holds these heads."""
    listed = tuple(heads[origin] for origin in sorted(heads))
    return tagged(HOLDING, author, addressee, to_bytes(listed))


def by_origin(body: HaveBody) -> Heads:
    """Return the heads that a HAVE names, by whose they are."""
    return {PeerId(head.origin): head for head in body.heads}


class Renewal:
    """The signed words of both ends of one link."""

    def __init__(self, me: PeerId, partner: PeerId) -> None:
        self._me = me
        self._partner = partner
        self._said: Heads = {}
        self._said_at = 0
        self._heard: dict[PeerId, OriginHead] = {}
        self._heard_at = 0

    # -- ours

    def said(self, held: Heads, now: int) -> None:
        """Note that a HAVE that names `held` was signed."""
        self._said, self._said_at = self._ends(held), now

    def is_due(self, held: Heads, now: int) -> bool:
        """Return whether `held` is to be signed: a journal of the ends has moved, or time has."""
        return self._said != self._ends(held) or not 0 <= now - self._said_at < HAVE_S

    # -- the partner's

    def check(self, body: HaveBody) -> None:
        """Raise Replayed for a HAVE whose author's journal was further already.

        By position and not by date: what was signed before cannot pass for news, and a clock that
        was set back silences nobody.
        """
        if _place(claimed(body, self._partner)) < _place(self._heard.get(self._partner)):
            msg = "a HAVE that is older than one heard before"
            raise Replayed(msg)

    def heard(self, body: HaveBody, now: int, listed: Collection[PeerId] = ()) -> None:
        """Take note of a HAVE that is on record; only from then on it can be renewed.

        `listed`: the further journals that both list.  What is said of any other is of no use, and
        might have no end.
        """
        # The two journals of the link are always named, others all together or not at all.
        named = by_origin(body)
        told = named if self._others(named) else {**self._others(self._heard), **named}
        kept = {self._me, self._partner, *listed}
        self._heard = {origin: head for origin, head in told.items() if origin in kept}
        self._heard_at = now

    def renewed(
        self, digest: bytes, held: Heads, now: int, listed: Collection[PeerId] = ()
    ) -> Heads | None:
        """Return what the partner still holds by the hash it tells, None if it has to sign anew.

        `held`: what is held here of all journals that both list.  Of third facilities' the partner
        may hold the same, or what it said last; of the two of the link only what it has signed.
        `listed`: further ones that both list, of which nothing is held here.
        """
        if not 0 <= now - self._heard_at < RENEWED_S:
            return None
        ends, others = self._ends(self._heard), self._others(held)
        told = {
            origin: head
            for origin, head in self._heard.items()
            if origin in others or origin in listed
        }
        for theirs in ({**others, **ends}, {**told, **ends}):
            if holding_digest(self._partner, self._me, theirs) == digest:
                return theirs
        return None

    def forget(self) -> None:
        """Forget what the partner said of third facilities; all of it is asked for."""
        self._heard = dict(self._ends(self._heard))

    def bound(self, now: int) -> None:
        """Renew nothing for longer than was meant, should the clock have been set back."""
        self._said_at = min(self._said_at, now)
        self._heard_at = min(self._heard_at, now)

    def _ends(self, heads: Heads) -> Heads:
        return {each: heads[each] for each in (self._me, self._partner) if each in heads}

    def _others(self, heads: Heads) -> Heads:
        ends = self._ends(heads)
        return {origin: head for origin, head in heads.items() if origin not in ends}


def _place(head: OriginHead | None) -> tuple[int, int]:
    return (-1, -1) if head is None else (head.epoch, head.batch)
