"""Batches of a partner's journal that a third facility has passed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Final

from peer.index import batches, epochs
from peer.index.batches import Labels, Run
from peer.index.held import Held
from peer.index.migrate import Tx
from protocol.entries import Header, SignedBatch, SignedHeader
from protocol.errors import Gap, Incomplete, RemoteProtocolError
from protocol.forks import ForkFound
from protocol.identifiers import PeerId
from protocol.journal import epoch_of
from protocol.limits import HEADER_BYTES
from protocol.nodekeys import NodeKeys
from protocol.records import from_bytes

_HOLE: Final = "a batch that was passed on has a hole that no signed entry justifies"


def store(
    tx: Tx,
    origin: PeerId,
    keys: NodeKeys,
    passed_on: Sequence[SignedBatch],
    labels: Labels,
    newest: SignedHeader | None = None,
) -> Run:
    """Follow batches as `batches.store` does, but keep none with a hole that nothing justifies.

    Anyone can make a hole of an entry, and only its origin would be asked to fill it.  Kept is a
    beginning of the run that leaves none; if there is no such, the error says why, and nothing has
    changed.  If the epoch that is held has ended, nothing is followed: the error is a Gap.
    """
    head = Held(tx, origin).head()
    if epochs.newest(tx, origin) > epoch_of(head):
        gap = Gap("what goes on after an epoch that has ended is for the origin itself to give")
        return replace(batches.store(tx, origin, keys, (), labels), error=gap)
    beyond = -1 if head is None else head.batch
    fault: RemoteProtocolError | None = None
    while True:
        tx.execute("SAVEPOINT relayed")
        run = batches.store(tx, origin, keys, passed_on, labels, newest if passed_on else None)
        hole = Held(tx, origin).incomplete_from(beyond)
        if hole is not None:
            tx.execute("ROLLBACK TO relayed")
        tx.execute("RELEASE relayed")
        if hole is None:
            gained = bool(passed_on) and run.error is None
            return run if fault is None or gained else replace(run, error=fault)
        fault = fault or (run.error if isinstance(run.error, ForkFound) else Incomplete(_HOLE))
        # By half at least: else an origin could have it try as often as there are batches.
        passed_on = _before(hole, passed_on)[: len(passed_on) // 2]


def _before(number: int, run: Sequence[SignedBatch]) -> list[SignedBatch]:
    return list(
        takewhile(lambda each: from_bytes(Header, each.header, HEADER_BYTES).batch < number, run)
    )
