"""Journals whose origin writes what it likes: two histories, batches that no honest rule signs."""

from __future__ import annotations

from dataclasses import replace

from peer.index import batches as batch_rows
from peer.index.held import Held
from protocol import journal
from protocol.entries import HEADER_DOMAIN, Header, SignedBatch, leaf
from protocol.hashing import merkle_root, plain_hash
from protocol.limits import HEADER_BYTES, LEASE_S
from protocol.records import from_bytes, to_bytes
from protocol.signing import sign
from tests.simulation import memory


class History:
    """A journal that its origin writes as it likes; each copy can tell another history."""

    def __init__(self, keys, batches=()):
        self._keys = keys
        self._tx = memory.Facility("rogue").partners
        self.batches = []
        for batch in batches:
            self._follow(batch)

    def copy(self):
        """Return the same history, to be continued in another way."""
        return History(self._keys, self.batches)

    @property
    def head(self):
        return Held(self._tx, self._keys.peer_id).head()

    @property
    def live(self):
        """The entries that are live, with their bodies, in the order of seq."""
        return memory.live_entries(Held(self._tx, self._keys.peer_id))

    def append(self, *entries, now, lease_s=LEASE_S, **changes):
        """Sign the next batch, with `changes` to fields of its header; return it."""
        advance = journal.append(
            self.head,
            self._keys.peer_id,
            entries,
            Held(self._tx, self._keys.peer_id),
            now=now,
            lease_s=lease_s,
            sign=self.sign,
        )
        if changes:
            signed = to_bytes(replace(advance.header, **changes))
            return SignedBatch(signed, self.sign(signed), advance.batch.entries)
        self._follow(advance.batch)
        return advance.batch

    def forged(self, batch, *entries):
        """Return a batch with other publications, its header signed to match them in all it says.

        Only what no header says can be wrong with it then: an id that was used before, an order.
        """
        header = from_bytes(Header, batch.header, HEADER_BYTES)
        digest = int.from_bytes(header.state_digest, "big")
        digest += sum(map(weight, entries)) - sum(map(weight, batch.entries))
        changed = replace(
            header,
            entries_root=merkle_root([leaf(entry) for entry in entries]),
            state_digest=(digest % (1 << 256)).to_bytes(32, "big"),
        )
        signed = to_bytes(changed)
        return SignedBatch(signed, self.sign(signed), entries)

    def sign(self, header):
        return sign(self._keys.node_seed, HEADER_DOMAIN, header)

    def _follow(self, batch):
        origin, keys = self._keys.peer_id, self._keys.node_keys
        run = batch_rows.store(self._tx, origin, keys, [batch], memory.labels_of)
        assert run.error is None, run.error
        self.batches.append(batch)


def weight(entry):
    """Return what a live entry adds to the state digest."""
    return int.from_bytes(plain_hash(leaf(entry) + entry.seq.to_bytes(8, "big")), "big")
