"""Promise 4, and what it means to break any: a fork ends with the proof at every honest node."""

from __future__ import annotations

from collections import defaultdict
from types import NoneType

from peer.index import forks, labels
from protocol.entries import Header
from protocol.errors import Gap, Replayed
from protocol.forks import ForkFound
from protocol.limits import HEADER_BYTES
from protocol.records import from_bytes
from tests.simulation.memory import live_entries


class Violation(AssertionError):
    """A promise was broken.  `promise`: its number, or what it is about."""

    def __init__(self, world, promise, sentence):
        self.promise = promise
        self.headline = f"({promise}) {sentence}"
        super().__init__(
            f"{self.headline}\n\n{world.story.text(world.names())}\n\n"
            f"Tell this story again:\n  {world.command}"
        )


def place_of(header):
    """Return origin, epoch and batch of the signed bytes of a header."""
    read = from_bytes(Header, header, HEADER_BYTES)
    return read.origin, read.epoch, read.batch


def headers_of(held):
    """Return the bytes of every header that is held of a journal."""
    rows = held.tx.execute("SELECT header FROM journal_batches WHERE journal = ?", (held.journal,))
    return {bytes(row["header"]) for row in rows}


def parts(headers):
    """Return whether two of these headers stand in one place."""
    return len({place_of(each) for each in headers}) < len(headers)


class Proofs:
    """Judges whether whoever tells two histories is convicted, and nobody else."""

    def __init__(self, world):
        self.world = world
        self.seen = defaultdict(set)

    def fail(self, promise, sentence):
        raise Violation(self.world, promise, sentence)

    def fork_found(self, name, origin):
        accused = self.world.by_id[origin]
        if accused.honest:
            self.fail(4, f"{name} found a fork of {accused.name}, which is honest")

    def judged(self, holder, origin, batch, error):
        """Take note of a header of a liar whose position was judged here, whatever came of it."""
        if origin in self.world.liars and isinstance(error, NoneType | Replayed | Gap | ForkFound):
            self.seen[holder, origin].add(batch.header)

    def every_fork_is_proved(self):
        for sentence in self.unproved():
            self.fail(4, sentence)

    def unproved(self):
        """Yield who lacks the proof of a fork of which the honest nodes together know."""
        for liar in self.world.liars.values():
            found = {
                name: forks.all_of(node.facility.partners).get(liar.peer_id)
                for name, node in self.world.nodes.items()
            }
            if self.is_convicted(liar) or any(found.values()):
                for name, row in found.items():
                    if row is None:
                        yield f"{name} has no proof that {liar.name} told two histories"
                if len({row.batch for row in found.values() if row}) > 1:
                    yield f"not all have the proof of the first batch of {liar.name} that differs"

    def is_convicted(self, liar):
        """Return whether two nodes hold, or one has seen, two headers for one place."""
        held = {
            name: headers_of(node.facility.held_of(liar.peer_id))
            for name, node in self.world.nodes.items()
        }
        return parts(set().union(*held.values())) or any(
            parts(each | self.seen[name, liar.name]) for name, each in held.items()
        )

    def only_what_is_common_is_listed(self):
        """Of a journal that parts, nothing is found from the batch on in which it does."""
        for node in self.world.nodes.values():
            tx = node.facility.partners
            for origin, row in forks.all_of(tx).items():
                held = node.facility.held_of(origin)
                before = held.head_at(row.batch - 1)
                common = 0 if before is None else before.last_seq
                for entry in live_entries(held):
                    found = labels.find(tx, entry.payload[:16], origin)
                    if entry.seq > common and any(hit.seq == entry.seq for hit in found):
                        author = self.world.by_id[origin].name
                        self.fail(4, f"{node.name} lists what {author} does not tell everyone")
