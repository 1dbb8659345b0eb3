"""How far each partner's journal is held."""

from __future__ import annotations

from dataclasses import dataclass, field

from peer.index import epochs, forks, orphans, witnesses
from peer.index.batches import purge
from peer.index.held import Held
from peer.index.migrate import Tx
from protocol.entries import read_header
from protocol.errors import BadSignature
from protocol.identifiers import PeerId
from protocol.journal import Head, epoch_of
from protocol.messages import OriginHead
from protocol.nodekeys import NodeKeys
from protocol.reciprocity import Progress


@dataclass(frozen=True, slots=True)
class Frontier:
    """Where one partner's journal ends here.

    `incomplete_from`: the first batch with a live entry that came without its body, None if all
    came.  `progress`: how far the exchange has come.  `forked`: it signed two histories.
    `newest_epoch`: the last of which there is a record.  For `joining` and `early` see
    `protocol.events.HeldJournal`.
    """

    head: Head | None = None
    incomplete_from: int | None = None
    progress: Progress = field(default_factory=Progress)
    forked: bool = False
    joining: bool = False
    early: OriginHead | None = None
    newest_epoch: int = 0

    @property
    def ended(self) -> bool:
        """Whether the epoch that is held has ended."""
        return self.newest_epoch > epoch_of(self.head)

    @property
    def whole(self) -> bool:
        """Whether nothing up to the head is lacking that may be live."""
        return self.incomplete_from is None and not self.joining


def read(tx: Tx) -> dict[PeerId, Frontier]:
    """Return the frontier of every partner of which anything is held or was heard."""
    heard, forked = witnesses.heard(tx), forks.all_of(tx)
    origins = {PeerId(row["origin"]) for row in tx.execute("SELECT origin FROM journals")}
    found: dict[PeerId, Frontier] = {}
    for origin in origins | set(heard) | set(forked):
        held = Held(tx, origin)
        head = held.head()
        found[origin] = Frontier(
            head=head,
            incomplete_from=held.incomplete_from(),
            progress=Progress(completed_at=heard[origin].in_step_at if origin in heard else None),
            forked=origin in forked,
            joining=held.joining(),
            early=orphans.newest(held),
            newest_epoch=epochs.newest(tx, origin),
        )
    return found


def drop_void(tx: Tx, origin: PeerId, keys: NodeKeys) -> bool:
    """Erase a partner's journal if its newest batch is not signed by the key that is to sign it.

    A newer key record has ended a stolen key before that batch; what the thief withdrew is gone
    here, so the whole journal is read anew.  Return whether it was erased.
    """
    held = Held(tx, origin)
    head = held.head()
    signed = None if head is None else held.header(head.batch)
    if signed is None:
        return False
    try:
        read_header(signed, origin, keys)
    except BadSignature:
        return purge(tx, origin)
    return False
