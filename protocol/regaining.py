"""The part of an exchange that takes back our own journal from a partner who holds more of it."""

from __future__ import annotations

from collections.abc import Sequence

from protocol.entries import SignedBatch, SignedHeader, header_hash, read_header
from protocol.errors import Gap, Replayed
from protocol.events import (
    Begun,
    Effect,
    FindHeader,
    HeaderFound,
    HeldJournal,
    Refuse,
    Regain,
    Send,
    Stored,
)
from protocol.forks import ForkFound
from protocol.frontier import is_ahead, next_batch
from protocol.identifiers import PeerId
from protocol.journal import epoch_of
from protocol.messages import OriginHead, Want


class Regaining:
    """What one partner shows of our own journal; `head` is where it ends here.

    A claim proves nothing, only our own signature does: so what is claimed is asked for.
    """

    def __init__(self, me: PeerId, own: HeldJournal) -> None:
        self.head = own.head
        self._me = me
        self._keys = own.keys
        self._incomplete_from = own.incomplete_from
        self._asked_from: int | None = None
        """From where the partner's history was asked for, because it is not ours."""
        self._is_another = False
        """It was seen from where it parts from ours: there is no more to learn from it."""

    def heard(self, claim: OriginHead | None) -> list[Effect]:
        """Ask for what a HAVE names of our journal and we may lack."""
        if claim is None or (self._is_another and claim.epoch <= epoch_of(self.head)):
            return []
        if is_ahead(claim, self.head):
            return [self._want(next_batch(claim, self.head))]
        if self._incomplete_from is not None:
            return [self._want(self._incomplete_from)]
        if self.head is None or claim.epoch != self.head.epoch or claim.batch == self.head.batch:
            return []
        return [FindHeader(self._me, claim.epoch, claim.batch, claim)]

    def found(self, event: HeaderFound, claim: OriginHead) -> list[Effect]:
        """Ask for the history of which a partner names a header that is not ours."""
        if event.header is not None and event.header.hash == claim.header_hash:
            return []
        self._asked_from = claim.batch
        return [self._want(claim.batch)]

    def given(
        self, batches: Sequence[SignedBatch], newest: SignedHeader | None, *, more: bool
    ) -> list[Effect]:
        """Take batches of our own journal, if there may be something in them that we lack.

        Raise what `read_header` does for one that we have not signed.
        """
        lacking = self._incomplete_from is not None or self._asked_from is not None
        for batch in batches:
            header = read_header(batch.signed_header, self._me, self._keys)
            claim = OriginHead(
                origin=self._me,
                epoch=header.epoch,
                batch=header.batch,
                header_hash=header_hash(batch.header),
                last_seq=header.last_seq,
            )
            lacking = lacking or is_ahead(claim, self.head)
        return [Regain(tuple(batches), more, newest)] if lacking else []

    def begun(self, event: Begun) -> None:
        """Go on from where our journal ends after new epochs of it were taken note of."""
        self.head, self._incomplete_from = event.head, event.incomplete_from
        self._is_another = False

    def stored(self, event: Stored) -> list[Effect]:
        """Go on taking back; what lacks still is asked for at the next HAVE."""
        self.head, self._incomplete_from = event.head, event.incomplete_from
        goes_on = event.error is None or isinstance(event.error, Replayed)
        if goes_on and event.more and event.head is not None:
            return [self._want(event.through + 1)]
        asked_from, self._asked_from = self._asked_from, None
        self._is_another = asked_from == 0 and isinstance(event.error, ForkFound)
        match event.error:
            case ForkFound() if asked_from != 0:
                # No fault of the partner's: the two histories must be seen from where they part.
                self._asked_from = 0
                return [self._want(0)]
            case None | ForkFound() | Gap() | Replayed():
                # Another partner may have given back what this one lacks.
                return []
            case error:
                return [Refuse(error)]

    def _want(self, from_batch: int) -> Send:
        return Send(Want(self._me, epoch_of(self.head), from_batch))
