"""What two partners tell each other about the journals of facilities that both of them list.

An origin that shows one partner another history than the next is found out here: both say in their
HAVEs how far they hold its journal, and where the hashes differ, each asks the other for the signed
headers, halving the stretch in between until it knows the first batch that differs.  Its two
headers are the proof, which goes to everyone whom it concerns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from protocol.entries import Header, SignedHeader, read_header
from protocol.events import Effect, FindHeader, Freeze, HeaderFound, HeldJournal, Send
from protocol.forks import ForkProof, place_of, verify_fork
from protocol.hashing import LISTED, tagged
from protocol.identifiers import PeerId
from protocol.limits import EXCHANGE_S, HEADER_BYTES
from protocol.messages import Fork, HeldHeader, OriginHead, Origins, WantHeader
from protocol.records import from_bytes

Others: TypeAlias = Callable[[], Mapping[PeerId, HeldJournal]]
"""What is held at this moment of each partner's journal, the partner at hand excepted."""

NAME_BYTES: Final = 16

AGAIN_S: Final = EXCHANGE_S // 2
"""No message is said again sooner: within one round, and later than any answer is under way."""


def listed_as(author: PeerId, addressee: PeerId, origin: PeerId) -> bytes:
    """Return the name, 16 B, by which `author` tells `addressee` that it lists `origin`.

    Only who knows the origin's id can tell that it is meant.
    """
    return tagged(LISTED, author, addressee, origin)[:NAME_BYTES]


@dataclass(slots=True)
class _Search:
    """Two histories agree up to batch `same` and differ at batch `differ`; `asked` lies between."""

    epoch: int
    same: int
    differ: int
    asked: int


class Comparison:
    """The part of an exchange that speaks of third facilities' journals."""

    def __init__(self, me: PeerId, partner: PeerId, others: Others) -> None:
        self._me = me
        self._partner = partner
        self._others = others
        self._said: tuple[bytes, ...] | None = None
        self._theirs: frozenset[bytes] = frozenset()
        self._is_introduced = False
        """The partner has said whom it lists."""
        self._searches: dict[PeerId, _Search] = {}
        self._done: set[tuple[PeerId, int]] = set()
        self._forks: dict[PeerId, ForkProof] = {}
        self._told: set[ForkProof] = set()
        self._heard: dict[PeerId, tuple[int, int]] = {}
        """Epoch of the latest fork that the partner has told of, and its batch."""
        self._said_at: dict[Origins | Fork, int] = {}

    # -- who is spoken of

    def common(self) -> dict[PeerId, HeldJournal]:
        """Return the third facilities that both sides list, with what is held here of each."""
        others = self._others()
        return {each: others[each] for each in sorted(others) if self._name(each) in self._theirs}

    def _name(self, origin: PeerId) -> bytes:
        return listed_as(self._partner, self._me, origin)

    def introduce(self, now: int, *, again: bool = False) -> list[Effect]:
        """Say whom we list and of which forks there is proof, unless the partner knows.

        Due with every HAVE: what has not arrived, or could not be kept, is said again.  `again`:
        the partner asks for it.
        """
        names = self._names()
        is_known = names == self._said and self._is_introduced and not again
        return ([] if is_known else self._say(Origins(names), now)) + self._tell_forks(now)

    def _names(self) -> tuple[bytes, ...]:
        return tuple(sorted(listed_as(self._me, self._partner, each) for each in self._others()))

    def introduced(self, message: Origins, now: int) -> list[Effect]:
        """Hear whom the partner lists; tell it of the forks that concern it."""
        # Who introduces itself again has not heard us.
        again = self._say(Origins(self._names()), now) if self._is_introduced else []
        self._theirs, self._is_introduced = frozenset(message.names), True
        return again + self._tell_forks(now)

    def _say(self, message: Origins | Fork, now: int) -> list[Effect]:
        """Say it, unless it was said just now: two who answer each other must come to an end."""
        if 0 <= now - self._said_at.get(message, -AGAIN_S) < AGAIN_S:
            return []
        self._said_at[message] = now
        if isinstance(message, Origins):
            self._said = message.names
        return [Send(message)]

    def received(self, message: WantHeader | HeldHeader | Fork, now: int) -> list[Effect]:
        """Handle a message about headers; raise what `entries.read_header` and `verify_fork` do."""
        match message:
            case WantHeader():
                return self._wanted(message)
            case HeldHeader():
                return self._given(message)
            case Fork():
                return self._told_of(message, now)

    # -- what a HAVE shows

    def heard(self, claims: Mapping[PeerId, OriginHead]) -> list[Effect]:
        """Compare what the partner says it holds with what is held here."""
        effects: list[Effect] = []
        # Whoever speaks of an origin lists it, though it may not have been heard to say so.
        self._theirs |= {self._name(each) for each in self._others() if each in claims}
        for origin, held in self.common().items():
            claim = claims.get(origin)
            if claim is None or held.head is None or claim.epoch != held.head.epoch:
                continue
            if claim.header_hash == held.head.header_hash:
                continue
            if (origin, claim.epoch) not in self._done and claim.batch <= held.head.batch:
                effects.append(FindHeader(origin, claim.epoch, claim.batch, claim))
        return effects

    def _wanted(self, message: WantHeader) -> list[Effect]:
        """Answer a question for a signed header of a journal that both sides may read."""
        origin = PeerId(message.origin)
        if origin not in {self._me, self._partner} and origin not in self.common():
            return []
        return [FindHeader(origin, message.epoch, message.batch, None)]

    def found(self, event: HeaderFound) -> list[Effect]:
        """Go on with the header of our copy for which `FindHeader` asked."""
        match event.because:
            case None:
                if event.header is None:
                    return []
                return [Send(HeldHeader(event.origin, event.header))]
            case OriginHead() as claim:
                return self._suspect(event, claim)
            case SignedHeader() as theirs:
                return self._judge(event, theirs)

    # -- where two histories part

    def _suspect(self, event: HeaderFound, claim: OriginHead) -> list[Effect]:
        if event.header is None or event.header.hash == claim.header_hash:
            return []
        search = self._searches.get(event.origin)
        if search is None or search.epoch < claim.epoch:
            search = _Search(claim.epoch, -1, claim.batch, claim.batch)
            self._searches[event.origin] = search
        # One under way is asked again: its question or its answer may have been lost.
        return [Send(WantHeader(event.origin, search.epoch, search.asked))]

    def _given(self, message: HeldHeader) -> list[Effect]:
        """Have the partner's header compared with ours, if we asked for it."""
        origin = PeerId(message.origin)
        search = self._searches.get(origin)
        held = self.common().get(origin)
        if search is None or held is None:
            return []
        header = read_header(message.header, origin, held.keys)
        if header.epoch > search.epoch or header.batch != search.asked:
            return []
        return [FindHeader(origin, header.epoch, header.batch, message.header)]

    def _judge(self, event: HeaderFound, theirs: SignedHeader) -> list[Effect]:
        origin, search = event.origin, self._searches.get(event.origin)
        if search is None or search.asked != event.batch or event.header is None:
            return []
        effects: list[Effect] = []
        both = (event.header, theirs)
        if event.header.header == theirs.header or min(map(_epoch, both)) < search.epoch:
            # What the records of epochs have made void here or there is no fork of this epoch.
            search.same = event.batch
        else:
            search.differ = event.batch
            effects.append(Freeze(origin, ForkProof(event.header, theirs)))
        if search.differ - search.same <= 1:
            del self._searches[origin]
            self._done.add((origin, search.epoch))
            return effects
        search.asked = (search.same + search.differ) // 2
        return [*effects, Send(WantHeader(origin, search.epoch, search.asked))]

    # -- proofs

    def known(self, origin: PeerId, proof: ForkProof, now: int) -> list[Effect]:
        """Tell the partner of a fork that is on record here, if it lists the origin."""
        self._forks[origin] = proof
        return self._tell_forks(now)

    def _tell_forks(self, now: int) -> list[Effect]:
        """Tell of each fork once, and then until the partner has shown that it has a proof."""
        effects: list[Effect] = []
        common = self.common()
        for origin, proof in self._forks.items():
            if origin not in common:
                continue
            is_standing = common[origin].forked and not self._is_heard(origin, proof)
            if proof not in self._told or is_standing:
                self._told.add(proof)
                effects += self._say(Fork(origin, proof.first, proof.second), now)
        return effects

    def _is_heard(self, origin: PeerId, proof: ForkProof) -> bool:
        """Return whether the partner has told of a fork at least as early, or in a later epoch."""
        epoch, batch = place_of(proof)
        known_epoch, known_batch = self._heard.get(origin, (-1, 0))
        return known_epoch > epoch or (known_epoch == epoch and known_batch <= batch)

    def _told_of(self, message: Fork, now: int) -> list[Effect]:
        """Verify a proof that the partner has, against an origin that we list."""
        origin = PeerId(message.origin)
        held = self._others().get(origin)
        if held is None:
            return []
        proof = ForkProof(message.first, message.second)
        place = verify_fork(proof, origin, held.keys)
        own = self._forks.get(origin)
        # Who tells us again has not heard that we have a proof.
        again = self._is_heard(origin, proof) and own is not None
        if not self._is_heard(origin, proof):
            self._heard[origin] = place
        answer = self._say(Fork(origin, own.first, own.second), now) if own and again else []
        return [Freeze(origin, proof), *answer]


def _epoch(signed: SignedHeader) -> int:
    return from_bytes(Header, signed.header, HEADER_BYTES).epoch
