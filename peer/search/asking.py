"""Asking the partners: the same blinded points to each, in parallel, with a deadline.

A partner whose search keys we hold need not be asked: the outputs are made here.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from peer.actors import Role
from peer.errors import NodeError
from peer.index.reciprocity import ANSWERED
from peer.link import Links, NotConnected
from peer.partners import Partner
from peer.reciprocity import Reciprocity
from peer.search.asked import Asked, not_asked, refused
from peer.search.canary import Canary
from peer.search.delegations import Delegations
from protocol import delegation, evaluation
from protocol.announcement import CANARY
from protocol.consent.directive import serves
from protocol.delegation import Outputs
from protocol.errors import Refusal, RemoteProtocolError
from protocol.evaluation import Question
from protocol.identifiers import PeerId
from protocol.matching.keys import MatchKey
from protocol.messages import Evaluate, Evaluated
from protocol.quota import QUOTA
from protocol.versions import NO_COMMON_VERSION

NOT_ACCEPTED: Final = "not-accepted"
FAULTY: Final = "faulty"


class Head(Protocol):
    """What is needed to know of a partner's journal; `peer.gossip.Freshness` has it."""

    @property
    def head(self) -> object | None:
        """Where the journal held ends, None if nothing is held."""

    @property
    def last_confirmed_at(self) -> int | None:
        """When the partner last vouched for it."""

    @property
    def lease_over(self) -> bool:
        """Whether it must not be listed any more."""


@dataclass(frozen=True, slots=True)
class _Blinded:
    """A question as it travels, and what unblinds the answers."""

    message: Evaluate
    strong: Question
    weak: Question


class _Search:
    """One search: its match keys, and the blinded question, made when the first is asked."""

    def __init__(
        self,
        keys: Sequence[MatchKey],
        search_id: bytes,
        clinician: str,
        purpose: str,
        over: Refusal | None,
    ) -> None:
        self.strong = tuple(key.text for key in keys if key.tier == "strong")
        self.weak = tuple(key.text for key in keys if key.tier == "weak")
        self.purpose = purpose
        self.over = over
        self._who = (search_id, clinician)
        self._blinded: asyncio.Task[_Blinded] | None = None

    async def blinded(self) -> _Blinded:
        """Return the question, of the same size whatever is asked; every origin gets the same."""
        if self._blinded is None:
            self._blinded = asyncio.create_task(asyncio.to_thread(self._blind))
        return await asyncio.shield(self._blinded)

    def _blind(self) -> _Blinded:
        draw = evaluation.QUESTION_RANDOM_BYTES
        strong = evaluation.ask((*self.strong, CANARY), secrets.token_bytes(draw))
        weak = evaluation.ask(self.weak, secrets.token_bytes(draw))
        search_id, clinician = self._who
        message = Evaluate(
            search_id, clinician, Role.CLINICIAN, self.purpose, strong.points, weak.points
        )
        return _Blinded(message, strong, weak)


class Asking:
    """Puts one blind question to every partner, and takes only answers that find something."""

    def __init__(
        self,
        links: Links,
        reciprocity: Reciprocity,
        delegations: Delegations,
        canary: Canary,
        deadline_s: float,
    ) -> None:
        self._links = links
        self._reciprocity = reciprocity
        self._delegations = delegations
        self._canary = canary
        self._deadline_s = deadline_s

    async def ask(
        self,
        partners: Iterable[Partner],
        coverage: Mapping[PeerId, Head],
        keys: Sequence[MatchKey],
        *,
        search_id: bytes,
        clinician: str,
        purpose: str,
        over: Refusal | None = None,
    ) -> AsyncGenerator[Asked, None]:
        """Yield what each partner answers to our match keys, as it comes.

        `over`: why none is searched.  Whoever does not want the rest closes it: nobody is asked any
        further then.
        """
        search = _Search(keys, search_id, clinician, purpose, over)
        tasks = [
            asyncio.create_task(self._search(partner, coverage.get(partner.peer_id), search))
            for partner in partners
        ]
        try:
            for answered in asyncio.as_completed(tasks):
                yield await answered
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _search(self, partner: Partner, head: Head | None, search: _Search) -> Asked:
        if head is None or head.head is None:
            reason = "has not sent its journal yet"
            return not_asked(partner, "no-journal", reason, listable=False)
        if head.lease_over:
            since = head.last_confirmed_at
            return not_asked(partner, "lease-over", "not confirmed", since, listable=False)
        if search.over is not None:
            return not_asked(partner, search.over.code, search.over.reason.rstrip("."))
        made = await self._made_here(partner, search)
        return made or await self._canary.verified(await self._ask(partner, search))

    async def _made_here(self, partner: Partner, search: _Search) -> Asked | None:
        """Return what a partner would answer, made with its own keys; None if it is to be asked.

        So it is where they do not fit its journal (any more), or where its terms do not cover the
        purpose: what it then says is its own to say.
        """
        keys = self._delegations.held(partner.peer_id)
        if not keys:
            return None
        purposes = frozenset(partner.their_terms.purposes)
        if purposes and not serves(purposes, search.purpose):
            return None
        outputs = await asyncio.to_thread(
            delegation.outputs, keys, search.strong, search.weak, CANARY
        )
        made = Asked(partner, outputs, delegated=True)
        return made if await self._canary.fits(made) else None

    async def _ask(self, partner: Partner, search: _Search) -> Asked:
        over = await self._reciprocity.quotas.search_objection(partner, search.purpose)
        if over is not None:
            return not_asked(partner, over.code, over.reason.rstrip("."))
        question = await search.blinded()
        try:
            answer = await self._reciprocity.ask(
                partner.peer_id, question.message, self._deadline_s
            )
            if not isinstance(answer, Evaluated):
                return refused(partner, FAULTY, "answered with something else", FAULTY)
            outputs = await asyncio.to_thread(_outputs, question.strong, question.weak, answer)
        except NotConnected:
            return self._offline(partner)
        except TimeoutError:
            reason = f"did not answer within {self._deadline_s:g} s"
            return refused(partner, "timed-out", reason, "timed-out")
        except Refusal as refusal:
            reason = f"refused: {refusal.reason.rstrip('.')}"
            shown = QUOTA if refusal.code == QUOTA else "refused"
            return refused(partner, shown, reason, refusal.code)
        except RemoteProtocolError as error:
            return refused(partner, FAULTY, f"broke the protocol: {error.code}", FAULTY)
        except NodeError as error:
            return refused(partner, FAULTY, str(error).rstrip("."), FAULTY)
        return Asked(partner, outputs, code=ANSWERED)

    def _offline(self, partner: Partner) -> Asked:
        state = self._links.state(partner.peer_id)
        not_now = partial(not_asked, partner, since=state.since)
        if state.last_error_code == NOT_ACCEPTED:
            return not_now(NOT_ACCEPTED, "does not accept this facility")
        if state.last_error_code == NO_COMMON_VERSION:
            return not_now(NO_COMMON_VERSION, "speaks another version of the protocol")
        return not_now("offline", "offline")


def _outputs(strong: Question, weak: Question, answer: Evaluated) -> Outputs:
    """Return the outputs of the strong and of the weak keys, and the canary's for everyone.

    An answer that stands there twice, beside one of a past key epoch, is opened once.
    """
    opened: list[bytes] = []
    hinted: list[bytes] = []
    canaries: list[bytes] = []
    for audience in dict.fromkeys(answer.answers):
        *outputs, canary = evaluation.outputs(strong, audience.strong)
        opened += outputs
        canaries.append(canary)
        hinted += evaluation.outputs(weak, audience.weak)
    return Outputs(tuple(opened), tuple(hinted), answer.answers[0].key_epoch, canaries[0])
