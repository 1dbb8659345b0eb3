"""Asking the partners: the same blinded points to each, in parallel, with a deadline."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from peer.actors import Role
from peer.errors import NodeError
from peer.index.reciprocity import ANSWERED
from peer.link import Links, NotConnected
from peer.partners import Partner
from peer.reciprocity import Reciprocity
from peer.search.answer import Facility, Uncovered
from protocol import evaluation
from protocol.announcement import CANARY
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
class Asked:
    """What one partner answered: the outputs of our keys in each audience, or why there are none.

    `strong` open records, `weak` only hint at them.  `listable`: what is held of its journal may be
    shown.  `code`: how it answered, '' if it did, None if it could not be asked.  `canary`: the key
    epoch of everyone's answer, and the output of the canary in it.
    """

    partner: Partner
    strong: tuple[bytes, ...] = ()
    weak: tuple[bytes, ...] = ()
    uncovered: Uncovered | None = None
    listable: bool = True
    code: str | None = None
    canary: tuple[int, bytes] | None = None


class Asking:
    """Puts one blind question to every partner."""

    def __init__(self, links: Links, reciprocity: Reciprocity, deadline_s: float) -> None:
        self._links = links
        self._reciprocity = reciprocity
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

        `over`: why none is asked.  Whoever does not want the rest closes it: nobody is asked any
        further then.
        """
        strong, weak = await asyncio.to_thread(_blind, keys)
        message = Evaluate(
            search_id, clinician, Role.CLINICIAN, purpose, strong.points, weak.points
        )
        tasks = [
            asyncio.create_task(
                self._ask(partner, coverage.get(partner.peer_id), message, strong, weak, over)
            )
            for partner in partners
        ]
        try:
            for answered in asyncio.as_completed(tasks):
                yield await answered
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(
        self,
        partner: Partner,
        head: Head | None,
        message: Evaluate,
        strong: Question,
        weak: Question,
        over: Refusal | None,
    ) -> Asked:
        if head is None or head.head is None:
            reason = "has not sent its journal yet"
            return _not(partner, "no-journal", reason, listable=False)
        if head.lease_over:
            since = head.last_confirmed_at
            return _not(partner, "lease-over", "not confirmed", since, listable=False)
        quotas = self._reciprocity.quotas
        over = over or await quotas.search_objection(partner, message.purpose)
        if over is not None:
            return _not(partner, over.code, over.reason.rstrip("."))
        try:
            answer = await self._reciprocity.ask(partner.peer_id, message, self._deadline_s)
            if not isinstance(answer, Evaluated):
                return replace(_not(partner, FAULTY, "answered with something else"), code=FAULTY)
            opened, hinted, canary = await asyncio.to_thread(_outputs, strong, weak, answer)
        except NotConnected:
            return self._offline(partner)
        except TimeoutError:
            reason = f"did not answer within {self._deadline_s:g} s"
            return replace(_not(partner, "timed-out", reason), code="timed-out")
        except Refusal as refusal:
            reason = f"refused: {refusal.reason.rstrip('.')}"
            shown = QUOTA if refusal.code == QUOTA else "refused"
            return replace(_not(partner, shown, reason), code=refusal.code)
        except RemoteProtocolError as error:
            reason = f"broke the protocol: {error.code}"
            return replace(_not(partner, FAULTY, reason), code=FAULTY)
        except NodeError as error:
            return replace(_not(partner, FAULTY, str(error).rstrip(".")), code=FAULTY)
        return Asked(partner, opened, hinted, code=ANSWERED, canary=canary)

    def _offline(self, partner: Partner) -> Asked:
        state = self._links.state(partner.peer_id)
        if state.last_error_code == NOT_ACCEPTED:
            return _not(partner, NOT_ACCEPTED, "does not accept this facility", state.since)
        if state.last_error_code == NO_COMMON_VERSION:
            reason = "speaks another version of the protocol"
            return _not(partner, NO_COMMON_VERSION, reason, state.since)
        return _not(partner, "offline", "offline", state.since)


def _not(
    partner: Partner, code: str, reason: str, since: int | None = None, *, listable: bool = True
) -> Asked:
    facility = Facility(partner.peer_id, partner.name)
    uncovered = Uncovered(facility, code, reason, since)
    return Asked(partner, uncovered=uncovered, listable=listable)


def _blind(keys: Sequence[MatchKey]) -> tuple[Question, Question]:
    """Return the strong and the weak question, each of the same size whatever is asked."""
    strong = tuple(key.text for key in keys if key.tier == "strong")
    weak = tuple(key.text for key in keys if key.tier == "weak")
    draw = evaluation.QUESTION_RANDOM_BYTES
    return (
        evaluation.ask((*strong, CANARY), secrets.token_bytes(draw)),
        evaluation.ask(weak, secrets.token_bytes(draw)),
    )


def _outputs(
    strong: Question, weak: Question, answer: Evaluated
) -> tuple[tuple[bytes, ...], tuple[bytes, ...], tuple[int, bytes]]:
    """Return the outputs of the strong and of the weak keys, and the canary's for everyone."""
    everyone = answer.answers[0]
    opened: list[bytes] = []
    hinted: list[bytes] = []
    canaries: list[bytes] = []
    for audience in answer.answers:
        *outputs, canary = evaluation.outputs(strong, audience.strong)
        opened += outputs
        canaries.append(canary)
        hinted += evaluation.outputs(weak, audience.weak)
    return tuple(opened), tuple(hinted), (everyone.key_epoch, canaries[0])
