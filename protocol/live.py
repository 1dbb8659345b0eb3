"""Which entries of a journal are live: what is held of it, and what one batch makes of that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from protocol.entries import Entry, EntryKind, SignedHeader
from protocol.epochs import EpochRecord
from protocol.errors import Malformed
from protocol.hashing import plain_hash
from protocol.identifiers import EntryId

_DIGEST_MODULUS: Final = 1 << 256


@dataclass(frozen=True, slots=True)
class Standing:
    """What the journal says of an entry id: live at `seq` with `leaf`, or withdrawn at `seq`."""

    seq: int
    leaf: bytes | None


class Holding(Protocol):
    """What a facility holds of one journal, at the head from which a batch is judged."""

    def find(self, entry_id: EntryId) -> Standing | None:
        """Return how an id stands, None if the journal never named it (or below the floor)."""

    def live_below(self, seq: int) -> int:
        """Return how many live entries stand below `seq`; asked only when the floor rises."""

    def live(self) -> Iterable[tuple[EntryId, Standing]]:
        """Return every live id and how it stands; asked only when joining ends."""

    def bare_through(self) -> int:
        """Return the last seq of the newest batch that came without its entries, 0 if none did."""

    def header(self, batch: int) -> SignedHeader | None:
        """Return the signed header held for a batch number."""

    def epoch(self, number: int) -> EpochRecord | None:
        """Return the verified record that begins an epoch, None if it is not held."""


@dataclass(slots=True)
class State:
    """The live entries, as count and digest, while the entries of one batch are applied.

    `floor` is that of the head before.  While `joining` the entries of some batches below the next
    floor have never come: count and digest mean nothing then, and unknown ids may be withdrawn.
    """

    holding: Holding
    floor: int
    live_count: int
    digest: int
    joining: bool
    standings: dict[EntryId, Standing] = field(default_factory=dict)
    erased: set[int] = field(default_factory=set)

    def apply(self, entry: Entry, value: bytes) -> None:
        """Apply one entry with its leaf, in the order of seq; raise Malformed if it may not be."""
        known = self._find(EntryId(entry.entry_id))
        if known is not None and known.leaf is None:
            msg = "an entry id that was withdrawn is used again"
            raise Malformed(msg)
        if known is not None and known.leaf is not None:
            self.live_count -= 1
            self.digest -= _weight(known.leaf, known.seq)
            self.erased.add(known.seq)
        if entry.kind == EntryKind.WITHDRAWAL:
            if known is None and not self.joining:
                msg = "a withdrawal names an entry that is not live"
                raise Malformed(msg)
            self.standings[EntryId(entry.entry_id)] = Standing(entry.seq, None)
            return
        self._count(value, entry.seq)
        self.standings[EntryId(entry.entry_id)] = Standing(entry.seq, value)

    def _find(self, entry_id: EntryId) -> Standing | None:
        known = self.standings.get(entry_id) or self.holding.find(entry_id)
        # What was withdrawn below the floor is forgotten by everyone, so nobody may judge by it.
        forgotten = known is not None and known.leaf is None and known.seq < self.floor
        return None if forgotten else known

    def _count(self, value: bytes, seq: int) -> None:
        self.live_count += 1
        self.digest += _weight(value, seq)

    def live_below(self, seq: int) -> int:
        """Return how many entries below `seq` are live after all that was applied."""
        still = sum(
            1 for each in self.standings.values() if each.leaf is not None and each.seq < seq
        )
        # Every old position that fell was live in the holding, or was written by this batch.
        fallen = sum(
            1
            for entry_id in self.standings
            if (old := self.holding.find(entry_id)) and old.leaf is not None and old.seq < seq
        )
        return self.holding.live_below(seq) - fallen + still

    def settle(self, floor: int) -> None:
        """End all that is live below `floor`, and count the rest anew: joining is over.

        The floor lies above every batch whose entries never came, so what is left is everyone's.
        """
        before = [(key, stands) for key, stands in self.holding.live() if key not in self.standings]
        self.live_count = self.digest = 0
        for entry_id, stands in (*before, *self.standings.items()):
            if stands.leaf is None:
                continue
            if stands.seq < floor:
                self.standings[entry_id] = Standing(stands.seq, None)
                self.erased.add(stands.seq)
            else:
                self._count(stands.leaf, stands.seq)
        self.joining = False

    @property
    def digest_bytes(self) -> bytes:
        """The state digest, as headers state it."""
        return (self.digest % _DIGEST_MODULUS).to_bytes(32, "big")


def _weight(value: bytes, seq: int) -> int:
    return int.from_bytes(plain_hash(value + seq.to_bytes(8, "big")), "big")
