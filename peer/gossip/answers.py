"""What others here are told of the partners' journals, and of what partners hold of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from peer.index.withdrawals import Withdrawal
from protocol.identifiers import PeerId
from protocol.journal import Head


@dataclass(frozen=True, slots=True)
class Freshness:
    """How far, and since when, a partner's journal can be relied on.

    `last_confirmed_at`: Unix seconds at which the partner last vouched for `head`, None if never.
    `lease_over`: nothing of it may be listed.  `forked`: it signed two histories, and is followed
    no further.
    """

    head: Head | None
    last_confirmed_at: int | None
    connected: bool
    lease_over: bool
    forked: bool


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A withdrawal, and since when each partner has applied it; None: it has not said so yet."""

    withdrawal: Withdrawal
    applied_at: Mapping[PeerId, int | None]

    @property
    def outstanding(self) -> tuple[PeerId, ...]:
        """The partners that have not confirmed it."""
        return tuple(peer_id for peer_id, at in self.applied_at.items() if at is None)
