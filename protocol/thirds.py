"""What two partners tell each other of the journals of facilities that both list.

They compare what they were shown of them (`protocol.comparison`), and each passes on what the other
cannot fetch from its origin (`protocol.relay`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.comparison import Comparison, Others
from protocol.errors import UnknownMessage
from protocol.events import HeaderFound, Loaded, Stored
from protocol.messages import (
    Fork,
    HeldHeader,
    Membership,
    Origins,
    Relayed,
    WantHeader,
    WantRelayed,
)
from protocol.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Mapping

    from protocol.events import Effect, HeldJournal
    from protocol.forks import ForkProof
    from protocol.identifiers import PeerId
    from protocol.nodekeys import NodeKeys
    from protocol.renewal import Heads


class Thirds:
    """The part of an exchange that is about third facilities; `theirs`: the partner's keys."""

    def __init__(self, me: PeerId, partner: PeerId, theirs: NodeKeys, others: Others) -> None:
        self._comparison = Comparison(me, partner, others)
        self._relay = Relay(me, partner, theirs, self._comparison.common)

    def common(self) -> Mapping[PeerId, HeldJournal]:
        """Return the third facilities that both sides list, with what is held here of each."""
        return self._comparison.common()

    def introduce(self, now: int, *, again: bool = False) -> list[Effect]:
        """Say whom we list, if that is news or `again`; vouch for the partner, if that is due."""
        return [*self._comparison.introduce(now, again=again), *self._relay.vouch(now)]

    def received(self, message: object, now: int) -> list[Effect]:
        """Handle a message about third facilities; raise UnknownMessage for any other."""
        match message:
            case Origins():
                return self._comparison.introduced(message, now)
            case WantHeader() | HeldHeader() | Fork():
                return self._comparison.received(message, now)
            case Membership() | WantRelayed() | Relayed():
                return self._relay.received(message, now)
            case _:
                msg = "a message that is no part of an exchange"
                raise UnknownMessage(msg)

    def heard(self, claims: Heads, now: int) -> list[Effect]:
        """See what the partner's word shows of these journals."""
        return [*self._comparison.heard(claims), *self._relay.heard(claims, now)]

    def done(self, event: Loaded | Stored | HeaderFound, now: int) -> list[Effect]:
        """Go on after something was done with one of these journals."""
        match event:
            case Loaded():
                return self._relay.loaded(event, now)
            case Stored():
                return self._relay.stored(event, now)
            case HeaderFound():
                return self._comparison.found(event)

    def fork_known(self, origin: PeerId, proof: ForkProof, now: int) -> list[Effect]:
        """Tell the partner of a fork that is on record here, if it lists the origin."""
        return self._comparison.known(origin, proof, now)
