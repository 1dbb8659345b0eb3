"""Relay: a journal that reaches a partner of its origin through a third facility.

The origin signs a *membership* for each of its partners.  Who cannot reach the origin shows its own
to a facility that holds more of that journal, and gets the batches as they were signed, with that
facility's membership beside them.  So nobody passes a journal on, or is given it, whom its origin
has not vouched for within three days.  What comes is judged like everything of that origin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.errors import Expired, Gap, Incomplete, Malformed, RemoteProtocolError, Replayed
from protocol.events import (
    Effect,
    Freeze,
    HeldJournal,
    KeepMembership,
    Load,
    Loaded,
    Refuse,
    Send,
    Store,
    Stored,
    Vouch,
)
from protocol.forks import ForkFound
from protocol.frontier import is_ahead, next_batch
from protocol.identifiers import PeerId
from protocol.limits import (
    BACK_OFF_MOST_S,
    MEMBERSHIP_RENEW_S,
    MEMBERSHIP_S,
    WANT_S,
)
from protocol.messages import (
    MEMBERSHIP_DOMAIN,
    Membership,
    MembershipBody,
    Relayed,
    WantRelayed,
)
from protocol.statements import Statement, open_addressed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from protocol.messages import OriginHead
    from protocol.nodekeys import NodeKeys


def membership(author: PeerId, addressee: PeerId, now: int) -> MembershipBody:
    """Return what an origin signs for a partner, which may then be given the journal by others."""
    return MembershipBody(author, addressee, now, now + MEMBERSHIP_S)


def open_membership(
    statement: Statement, keys: NodeKeys, origin: PeerId, member: PeerId, now: int
) -> MembershipBody:
    """Return the membership of `member` that `origin` signed, if it holds at `now`.

    Raise Expired if it is over, Malformed if it was signed for longer than any may hold, and what
    `open_addressed` raises: BadSignature, WrongAddressee, Expired if it is dated ahead.
    """
    body = open_addressed(
        statement,
        MEMBERSHIP_DOMAIN,
        MembershipBody,
        key=keys[-1].public,
        author=origin,
        me=member,
        now=now,
    )
    if not body.issued_at < body.until <= body.issued_at + MEMBERSHIP_S:
        msg = "a membership for longer than any may hold"
        raise Malformed(msg)
    if now >= body.until:
        msg = "a membership is over: its origin has not renewed it"
        raise Expired(msg)
    return body


class Relay:
    """The part of an exchange that carries third journals.

    `common` are those that both ends list, with what is held here of each; `theirs` the keys of the
    partner, which is an origin too.
    """

    def __init__(
        self,
        me: PeerId,
        partner: PeerId,
        theirs: NodeKeys,
        common: Callable[[], Mapping[PeerId, HeldJournal]],
    ) -> None:
        self._me = me
        self._partner = partner
        self._theirs = theirs
        self._common = common
        self._vouched_at: int | None = None
        self._asked_until: dict[PeerId, int] = {}
        self._pause_until: dict[PeerId, int] = {}

    # -- our own journal

    def vouch(self, now: int) -> list[Effect]:
        """Renew the partner's membership in our journal, if that is due."""
        if self._vouched_at is not None and 0 <= now - self._vouched_at < MEMBERSHIP_RENEW_S:
            return []
        self._vouched_at = now
        return [Vouch()]

    # -- what the partner says

    def received(self, message: Membership | WantRelayed | Relayed, now: int) -> list[Effect]:
        """Handle a message about memberships; raise what `open_membership` does."""
        match message:
            case Membership(statement):
                open_membership(statement, self._theirs, self._partner, self._me, now)
                return [KeepMembership(statement)]
            case WantRelayed():
                return self._wanted(message, now)
            case Relayed():
                return self._given(message, now)

    def _wanted(self, message: WantRelayed, now: int) -> list[Effect]:
        """Answer a member with what its origin signed, if we may pass it on and hold more."""
        origin = PeerId(message.origin)
        held = self._common().get(origin)
        if held is None:
            return []
        open_membership(message.membership, held.keys, origin, self._partner, now)
        if self._ours(origin, held, now) is None or not _passes_on(held):
            return []
        head = held.head
        if head is None or message.epoch != head.epoch or message.from_batch > head.batch:
            return []
        return [Load(origin, message.from_batch, message.epoch)]

    def _given(self, message: Relayed, now: int) -> list[Effect]:
        """Have batches judged that were asked for, if whoever brings them may."""
        origin = PeerId(message.origin)
        held = self._common().get(origin)
        if held is None or now >= self._asked_until.pop(origin, 0) or held.linked:
            return []  # Not asked for, or too late: the origin itself is heard again.
        open_membership(message.membership, held.keys, origin, self._partner, now)
        if held.forked or held.ended:
            return []
        return [Store(origin, message.batches, message.more, message.newest)]

    def heard(self, claims: Mapping[PeerId, OriginHead], now: int) -> list[Effect]:
        """Ask for what the partner holds more of, of origins that cannot be asked themselves."""
        effects: list[Effect] = []
        for origin, held in self._common().items():
            claim = claims.get(origin)
            if claim is None or held.linked or held.forked or not is_ahead(claim, held.head):
                continue
            if held.head is not None and claim.epoch != held.head.epoch:
                continue
            effects += self._ask(origin, held, next_batch(claim, held.head), now)
        return effects

    def _ask(self, origin: PeerId, held: HeldJournal, start: int, now: int) -> list[Effect]:
        self._bound(origin, now)
        if now < max(self._asked_until.get(origin, 0), self._pause_until.get(origin, 0)):
            return []
        shown = self._ours(origin, held, now)
        if shown is None or held.ended:
            return []
        self._asked_until[origin] = now + WANT_S
        epoch = 0 if held.head is None else held.head.epoch
        return [Send(WantRelayed(origin, epoch, start, shown))]

    # -- what was done

    def loaded(self, event: Loaded, now: int) -> list[Effect]:
        """Pass on what was read, with what shows that we may."""
        held = self._common().get(event.origin)
        shown = None if held is None else self._ours(event.origin, held, now)
        if shown is None or not event.batches:
            return []
        return [Send(Relayed(event.origin, event.batches, event.more, event.newest, shown))]

    def stored(self, event: Stored, now: int) -> list[Effect]:
        """Go on after relayed batches were judged."""
        origin, held = event.origin, self._common().get(event.origin)
        match event.error:
            case ForkFound():
                # The origin's deed: whoever passes it on has shown it.
                return [Freeze(origin, event.error.proof)]
            case None | Gap() | Replayed():
                pass
            case Incomplete() if event.more:
                # What justifies the hole may lie beyond this answer; that is nobody's fault.
                self._pause_until[origin] = now + BACK_OFF_MOST_S
                return []
            case _:
                self._pause_until[origin] = now + BACK_OFF_MOST_S
                return [Refuse(event.error)]
        if event.more and event.error is None and held is not None and not held.linked:
            return self._ask(origin, held, event.through + 1, now)
        return []

    def _ours(self, origin: PeerId, held: HeldJournal, now: int) -> Statement | None:
        """Return our own membership in a journal, None if there is none that holds."""
        if held.membership is None:
            return None
        try:
            open_membership(held.membership, held.keys, origin, self._me, now)
        except RemoteProtocolError:
            return None
        return held.membership

    def _bound(self, origin: PeerId, now: int) -> None:
        """Wait for nothing longer than was meant, should the clock have been set back."""
        for until, most_s in ((self._asked_until, WANT_S), (self._pause_until, BACK_OFF_MOST_S)):
            until[origin] = min(until.get(origin, 0), now + most_s)


def _passes_on(held: HeldJournal) -> bool:
    """Return whether a copy is whole, so that who gets it has nothing to refuse."""
    return not held.forked and not held.joining and held.incomplete_from is None
