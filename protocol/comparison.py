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
from protocol.forks import ForkProof, verify_fork
from protocol.hashing import LISTED, tagged
from protocol.identifiers import PeerId
from protocol.limits import HEADER_BYTES
from protocol.messages import Fork, HeldHeader, OriginHead, Origins, WantHeader
from protocol.records import from_bytes

Others: TypeAlias = Callable[[], Mapping[PeerId, HeldJournal]]
"""What is held at this moment of each partner's journal, the partner at hand excepted."""

NAME_BYTES: Final = 16


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
        self._said: tuple[bytes, ...] = ()
        self._theirs: frozenset[bytes] = frozenset()
        self._searches: dict[PeerId, _Search] = {}
        self._done: set[tuple[PeerId, int]] = set()
        self._forks: dict[PeerId, ForkProof] = {}
        self._told: set[ForkProof] = set()

    # -- who is spoken of

    def common(self) -> dict[PeerId, HeldJournal]:
        """Return the third facilities that both sides list, with what is held here of each."""
        others = self._others()
        return {each: others[each] for each in sorted(others) if self._name(each) in self._theirs}

    def _name(self, origin: PeerId) -> bytes:
        return listed_as(self._partner, self._me, origin)

    def introduce(self, *, again: bool = False) -> list[Effect]:
        """Say whom we list, if that is news to the partner, or it may have missed it."""
        names = tuple(sorted(listed_as(self._me, self._partner, each) for each in self._others()))
        if names == self._said and not again:
            return []
        self._said = names
        return [Send(Origins(names))]

    def introduced(self, message: Origins) -> list[Effect]:
        """Hear whom the partner lists; tell it of the forks that concern it."""
        self._theirs = frozenset(message.names)
        return self._tell_forks()

    def received(self, message: WantHeader | HeldHeader | Fork) -> list[Effect]:
        """Handle a message about headers; raise what `entries.read_header` and `verify_fork` do."""
        match message:
            case WantHeader():
                return self._wanted(message)
            case HeldHeader():
                return self._given(message)
            case Fork():
                return self._told_of(message)

    # -- what a HAVE shows

    def heard(self, claims: Mapping[PeerId, OriginHead]) -> list[Effect]:
        """Compare what the partner says it holds with what is held here."""
        effects: list[Effect] = []
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

    def known(self, origin: PeerId, proof: ForkProof) -> list[Effect]:
        """Tell the partner of a fork that is on record here, if it lists the origin."""
        self._forks[origin] = proof
        return self._tell_forks()

    def _tell_forks(self) -> list[Effect]:
        effects: list[Effect] = []
        common = self.common()
        for origin, proof in self._forks.items():
            if origin in common and proof not in self._told:
                self._told.add(proof)
                effects.append(Send(Fork(origin, proof.first, proof.second)))
        return effects

    def _told_of(self, message: Fork) -> list[Effect]:
        """Verify a proof that the partner has, against an origin that we list."""
        origin = PeerId(message.origin)
        held = self._others().get(origin)
        if held is None:
            return []
        proof = ForkProof(message.first, message.second)
        verify_fork(proof, origin, held.keys)
        self._told.add(proof)
        return [Freeze(origin, proof)]


def _epoch(signed: SignedHeader) -> int:
    return from_bytes(Header, signed.header, HEADER_BYTES).epoch
