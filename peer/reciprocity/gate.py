"""Reciprocity at work: whom this node answers, and how it asks those who want an exchange first.

The rule is `protocol.reciprocity`; what it needs to know comes from the exchanges (`peer.gossip`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import structlog

from peer.clock import Clock
from peer.errors import NodeError
from peer.index import Database
from peer.index.frontiers import Frontier
from peer.index.reciprocity import Period
from peer.link import Links
from peer.reciprocity.balance import Balance, balance
from peer.reciprocity.completeness import Completeness
from peer.reciprocity.quotas import Quotas
from protocol.consent import PurposeOfUse
from protocol.errors import Refusal
from protocol.identifiers import PeerId
from protocol.messages import OriginHead
from protocol.reciprocity import HeardRefusal, breaks_glass, is_mended_by_exchange, objection

SHARE_FOR_EXCHANGE: Final = 0.5
"""How much of the time for an answer an exchange may take that the partner wants first."""


class Exchanges(Protocol):
    """What is needed of the exchanges; `peer.gossip.Gossip` has it."""

    def frontier(self, peer_id: PeerId) -> Frontier:
        """Return how far a partner's journal is held."""

    async def exchange_now(self, peer_id: PeerId) -> None:
        """Return when a partner holds all of our journal; raise Refusal or NodeError."""

    async def claims(self) -> Mapping[PeerId, OriginHead]:
        """Return what each partner last said that it holds of our journal."""


_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Standing:
    """When an exchange with a partner was last completed, and why it is not answered, if so."""

    completed_at: int | None
    objection: Refusal | None


class Reciprocity:
    """The gate before evaluations and grants, and the asking that passes the partners' gates."""

    def __init__(
        self, db: Database, me: PeerId, links: Links, clock: Clock, exchanges: Exchanges
    ) -> None:
        self._db = db
        self._me = me
        self._links = links
        self._clock = clock
        self._exchanges = exchanges
        self._refused: dict[PeerId, HeardRefusal] = {}
        self.quotas = Quotas(db, clock)
        self.completeness = Completeness(db, clock)

    def objection(self, peer_id: PeerId, purpose: str) -> Refusal | None:
        """Return why a partner's question is not answered now, None if it is.

        Breaking the glass always passes; whoever answers it raises the alert.
        """
        if breaks_glass(purpose):
            return None
        frontier = self._exchanges.frontier(peer_id)
        return objection(
            frontier.progress,
            frontier.head,
            self._clock.now(),
            forked=frontier.forked,
            refused=self._refused.get(peer_id),
        )

    def standing(self, peer_id: PeerId) -> Standing:
        """Return whether a partner is answered now, for any purpose but breaking the glass."""
        completed_at = self._exchanges.frontier(peer_id).progress.completed_at
        return Standing(completed_at, self.objection(peer_id, PurposeOfUse.TREAT))

    async def balances(
        self, partners: Iterable[PeerId], period: Period
    ) -> Mapping[PeerId, Balance]:
        """Return what was given to each partner and received from it."""
        claims = await self._exchanges.claims()
        found: dict[PeerId, Balance] = {}
        for peer_id in partners:
            head = self._exchanges.frontier(peer_id).head
            work = partial(
                balance,
                me=self._me,
                partner=peer_id,
                period=period,
                claim=claims.get(peer_id),
                theirs=None if head is None else head.live_count,
            )
            # One read for each: others wait a few milliseconds, however many partners there are.
            found[peer_id] = await self._db.read(work)
        return found

    async def ask(self, peer_id: PeerId, message: object, timeout_s: float) -> object:
        """Return a partner's answer.

        If the partner wants an exchange first, one is completed at once and the question is put
        once more.  Raises Refusal for its "no", NotConnected or TimeoutError.
        """
        async with asyncio.timeout(timeout_s):
            try:
                answer = await self._links.request(peer_id, message, timeout_s)
            except Refusal as refusal:
                if not is_mended_by_exchange(refusal.code):
                    self.quotas.heard(peer_id, type(message), refusal.code)
                    self._refused[peer_id] = HeardRefusal(refusal.code, self._clock.now())
                    raise
                _log.info("exchange-wanted-first", partner=peer_id.hex(), code=refusal.code)
                try:
                    async with asyncio.timeout(timeout_s * SHARE_FOR_EXCHANGE):
                        await self._exchanges.exchange_now(peer_id)
                except (Refusal, NodeError, TimeoutError):
                    raise refusal from None
                answer = await self._links.request(peer_id, message, timeout_s)
            self._refused.pop(peer_id, None)
            return answer
