"""What the federation promises: one function for each, called as things happen or at the end.

The numbers are those under which docs/explanation/simulation.md lists the promises.
"""

from __future__ import annotations

from peer.index import witnesses
from protocol.entries import Header
from protocol.hashing import plain_hash
from protocol.journal import is_joining
from protocol.limits import CLOCK_SKEW_S
from protocol.messages import Batches
from protocol.records import from_bytes
from tests.simulation.memory import LEASE_S, label

IDLE_BYTES_PER_HOUR = 3_600
"""What one side of a link may say in an hour in which nothing changes: a hash of 50 bytes a
minute, and head room.  The frames alone; what TLS adds is measured by the benchmarks."""


LATE_S = 90
"""A message arrives at most so late."""

SEARCHED = 5
"""Entries of each facility that one search looks for."""


class Violation(AssertionError):
    """A promise was broken.  `promise`: its number, or what it is about."""

    def __init__(self, world, promise, sentence):
        self.promise = promise
        self.headline = f"({promise}) {sentence}"
        super().__init__(
            f"{self.headline}\n\n{world.story.text(world.names())}\n\n"
            f"Tell this story again:\n  {world.command}"
        )


def entries_from(held, seq):
    """Return what is held of each entry from `seq` on, but for bodies and salts."""
    rows = held.tx.execute(
        "SELECT seq, entry_id, commitment FROM journal_entries WHERE journal = ? AND seq >= ?",
        (held.journal, seq),
    )
    return {tuple(row) for row in rows}


class Promises:
    """Judges one world."""

    def __init__(self, world):
        self.world = world
        self.headers = set()
        self.positions = {}
        self.signed_at = {}
        self.checked = {}
        self.rewound_at = {}

    def fail(self, promise, sentence):
        raise Violation(self.world, promise, sentence)

    def journals(self):
        """Yield (origin, holder) for every journal of an honest node that another may hold."""
        for origin in self.world.nodes.values():
            for holder in self.world.nodes.values():
                if holder is not origin:
                    yield origin, holder

    # -- 1: after healing, every allowed partner finds exactly what is published

    def everyone_finds_what_is_published(self):
        for node in self.world.nodes.values():
            live = node.facility.live(node.facility)
            if {each[2] for each in live.values()} != set(node.truth.published.values()):
                self.fail(1, f"{node.name}'s own journal is not what it published")
        for origin, holder in self.journals():
            if holder.facility.live(origin.facility) != origin.facility.live(origin.facility):
                self.fail(1, f"{holder.name} finds of {origin.name} what is not published there")

    # -- 2: what was withdrawn is nowhere, neither body nor salt

    def nothing_withdrawn_is_left(self):
        """In the bytes of any database, as a thief of the disk would see them."""
        for holder in self.world.nodes.values():
            image = holder.facility.images()
            for origin in self.world.nodes.values():
                for number in origin.truth.ended:
                    if any(trace in image for trace in origin.truth.traces[number]):
                        self.fail(2, f"{holder.name} keeps what {origin.name} withdrew ({number})")

    # -- 3: no honest origin signs one position twice

    def signed(self, name, head):
        origin = self.world.nodes[name]
        self.signed_at[head.header_hash] = self.world.now
        self._position(name, origin.facility.held_of(origin.peer_id).header(head.batch).header)

    def spoken(self, name, message):
        if isinstance(message, Batches):
            for batch in message.batches:
                self._position(name, batch.header)

    def _position(self, name, signed):
        if signed in self.headers:
            return
        self.headers.add(signed)
        header = from_bytes(Header, signed, 512)
        position = (header.origin, header.epoch, header.batch)
        before = self.positions.get(position)
        if before is not None and self._is_held_elsewhere(name, header.batch, before):
            self.fail(3, f"{name} has two batches for position {position[1:]}")
        self.positions[position] = signed

    def _is_held_elsewhere(self, name, batch, signed):
        """What a disk took with it that nobody else has, nobody can ever show."""
        me = self.world.nodes[name].peer_id
        held = [
            each.facility.held_of(me).header(batch)
            for each in self.world.nodes.values()
            if each.name != name
        ]
        return any(each is not None and each.header == signed for each in held)

    def shown_its_own(self, name, *, unknown, forked):
        if unknown:
            self.fail(3, f"{name} was shown a batch of its own and did not know that it lacks it")
        if forked:
            self.fail(3, f"{name} has signed two histories")

    def restored(self, name):
        """What it holds of others is older than it was; its own may end earlier than its copies."""
        self.checked = {each: at for each, at in self.checked.items() if each[0] != name}

    def rewound(self, holder, origin):
        self.checked.pop((holder, origin), None)
        self.rewound_at[holder, origin] = self.world.now

    # -- 4: a fork ends with the proof

    def fork_found(self, name, origin):
        self.fail(4, f"{name} found a fork of {self.world.by_id[origin].name}, which is honest")

    # -- 5 and 8: what is held is a beginning of what was signed, in its signed state

    def stored(self, holder, origin):
        """Judge what one store has changed: the headers from the last one judged on."""
        copy = self.world.nodes[holder].facility.held_of(self.world.members[origin].peer_id)
        head = copy.head()
        if head is not None:
            since = self.checked.get((holder, origin), 0)
            self.checked[holder, origin] = head.batch
            self.only_what_was_signed_is_held(copy, since, holder, origin)
            self.the_state_is_the_signed_one(copy, head, holder, origin)

    def only_what_was_signed_is_held(self, copy, since, holder, origin):
        author = self.world.nodes[origin]
        original = author.facility.held_of(author.peer_id)
        for batch in range(since, copy.head().batch + 1):
            signed = copy.header(batch)
            if signed is None or signed.header not in self.headers:
                self.fail(5, f"{holder} holds a header that {origin} did not sign")
        if original.head() is None or copy.header(copy.head().batch) != original.header(
            copy.head().batch
        ):
            return  # Its origin was set back, and is to get it from here; or has made it void.
        # What its origin has dropped below the floor can be compared no more.
        first = max(from_bytes(Header, copy.header(since).header, 512).first_seq, original.floor)
        if not entries_from(copy, first) <= entries_from(original, first):
            self.fail(5, f"{holder} holds an entry that {origin} did not sign")
        unexplained = copy.tx.execute(
            "SELECT count(*) FROM journal_entries e JOIN journal_standings s"
            " ON s.journal = e.journal AND s.seq = e.seq AND s.leaf IS NOT NULL"
            " LEFT JOIN journal_missing m ON m.journal = e.journal AND m.seq = e.seq"
            " WHERE e.journal = ? AND e.body IS NULL AND m.seq IS NULL",
            (copy.journal,),
        ).fetchone()[0]
        if unexplained:
            self.fail(5, f"{holder} took a hole of {origin} without a signed reason")

    def position_taken_twice(self, holder, origin, error):
        self.fail(5, f"{holder} accepted a position of {origin} twice: {error}")

    def the_state_is_the_signed_one(self, copy, head, holder, origin):
        if is_joining(head, copy.bare_through()):
            return  # Nobody relies on it until the floor above is reached.
        rows = copy.tx.execute(
            "SELECT seq, leaf FROM journal_standings WHERE journal = ? AND leaf IS NOT NULL",
            (copy.journal,),
        ).fetchall()
        total = sum(
            int.from_bytes(plain_hash(leaf + seq.to_bytes(8, "big")), "big") for seq, leaf in rows
        )
        state = (len(rows), (total % 2**256).to_bytes(32, "big"))
        if state != (head.live_count, head.state_digest):
            self.fail(8, f"the state that {holder} holds of {origin} is not the signed one")

    # -- 7: no hit from a head past its lease

    def check_a_search(self, name):
        """Search for some of all that was ever published, and see how old what is listed may be."""
        node = self.world.nodes[name]
        for author in self.world.nodes.values():
            if author is node or not node.up:
                continue
            some = sorted(author.truth.traces)
            for number in self.world.random.sample(some, min(len(some), SEARCHED)):
                for hit in node.search(label(number)):
                    self.no_hit_is_past_its_lease(node, author, hit)

    def no_hit_is_past_its_lease(self, node, author, hit):
        head = node.facility.held_of(hit.origin).head()
        age_s = self.world.now - self.signed_at[head.header_hash]
        wrong_s = abs(node.clock_error_s) + abs(author.clock_error_s) + CLOCK_SKEW_S
        if age_s > LEASE_S + wrong_s:
            self.fail(7, f"{node.name} lists of {author.name}, whose head is {age_s} s old")

    # -- 10: idle links are quiet

    def idle_is_quiet(self, seconds):
        for (me, partner), sent in sorted(self.world.sent_bytes.items()):
            per_hour = sent * 3600 // seconds
            if per_hour > IDLE_BYTES_PER_HOUR:
                self.fail(10, f"{me} tells {partner} {per_hour} bytes an hour when nothing changes")

    # -- 12: liveness

    def all_have_caught_up(self):
        for sentence in self.stragglers():
            self.fail(12, sentence)

    def stragglers(self):
        """Yield what keeps the federation from agreeing."""
        for node in self.world.nodes.values():
            if node.writer.pen.set_back_at is not None:
                yield f"{node.name} does not have its journal back"
        for origin, holder in self.journals():
            held = holder.facility.held(origin.facility)
            if held.head() != origin.facility.head():
                yield f"{holder.name} has not caught up with {origin.name}"
            elif is_joining(held.head(), held.bare_through()):
                yield f"{holder.name} has not reached the floor of {origin.name}"
            elif held.incomplete_from() is not None:
                yield f"{holder.name} still misses a body of {origin.name}"

    # -- acknowledgements

    def acknowledged(self, author, me, last_seq):
        """What a HAVE acknowledges is applied, durably, before it is said."""
        if last_seq and author in self.world.nodes:
            held = self.world.nodes[author].facility.held(self.world.nodes[me].facility).head()
            # What was on its way when a copy was rewound was true when it was said.
            late = self.world.now - self.rewound_at.get((author, me), 0) <= LATE_S
            if not late and (held is None or held.last_seq < last_seq):
                self.fail(
                    "acknowledgement",
                    f"{author} acknowledged seq {last_seq} of {me} without holding it",
                )

    def everyone_is_told(self):
        """An origin knows by whom its withdrawals are applied."""
        for sentence in self.untold():
            self.fail("acknowledgement", sentence)

    def untold(self):
        """Yield who has not said yet that it has applied all."""
        for origin, holder in self.journals():
            head = origin.facility.head()
            if head is not None and head.last_seq:
                told = witnesses.acknowledged(origin.facility.partners, head.last_seq)
                if holder.peer_id not in told:
                    yield f"{origin.name} was not told that {holder.name} has applied all"

    # -- the end

    def agreed(self):
        """Return whether everyone holds everything, and knows that the others do."""
        return next(self.stragglers(), next(self.untold(), None)) is None

    def check_the_end(self):
        """What must be true some rounds after everything healed."""
        self.all_have_caught_up()
        self.everyone_finds_what_is_published()
        self.checked.clear()
        for origin, holder in self.journals():
            self.stored(holder.name, origin.name)
        self.everyone_is_told()
        self.nothing_withdrawn_is_left()

    def check_the_quiet(self, seconds):
        self.idle_is_quiet(seconds)
