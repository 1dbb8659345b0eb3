"""What the federation promises: one function for each, called as things happen or at the end.

The numbers are those under which docs/explanation/simulation.md lists the promises.
"""

from __future__ import annotations

from itertools import chain

from peer.index import witnesses
from protocol.entries import Header
from protocol.hashing import plain_hash
from protocol.journal import is_joining
from protocol.limits import CLOCK_SKEW_S, STATEMENT_BYTES
from protocol.messages import Batches, Membership, MembershipBody, Relayed
from protocol.records import from_bytes
from tests.simulation.memory import LEASE_S, label
from tests.simulation.proofs import Proofs, headers_of, place_of

IDLE_BYTES_PER_HOUR = 3_600
"""What one side of a link may say in an hour in which nothing changes: a hash of 50 bytes a
minute, and head room.  The frames alone; what TLS adds is measured by the benchmarks."""
COMPARED_BYTES = 1_400
"""What one side says once a journal of a liar has moved at either: whom it lists and, at most
twice, all that it holds, in a federation of six."""


VOUCHED_BYTES = 170
"""A membership, which one side signs for the other once in MEMBERSHIP_RENEW_S."""

LATE_S = 90
"""A message arrives at most so late."""

WRONG_CLOCKS_S = 13 * 3600
"""By so much the clocks of two facilities together may be wrong: each by what one step is."""

SEARCHED = 5
"""Entries of each facility that one search looks for."""


def entries_from(held, seq):
    """Return what is held of each entry from `seq` on, but for bodies and salts."""
    rows = held.tx.execute(
        "SELECT seq, entry_id, commitment FROM journal_entries WHERE journal = ? AND seq >= ?",
        (held.journal, seq),
    )
    return {tuple(row) for row in rows}


class Promises(Proofs):
    """Judges one world."""

    def __init__(self, world):
        super().__init__(world)
        self.headers = set()
        self.positions = {}
        self.signed_at = {}
        self.checked = {}
        self.rewound_at = {}
        self.concealed = set()
        self.memberships = {}
        self.renewals = {}
        self.heads = {}
        self.moves = []

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
        if isinstance(message, Membership):
            self.vouched(name, message.statement)
        if name in self.world.nodes and isinstance(message, Batches | Relayed):
            for batch in message.batches:
                self._position(name, batch.header)

    def _position(self, name, signed):
        if signed in self.headers:
            return
        self.headers.add(signed)
        position = place_of(signed)
        if not self.world.by_id[position[0]].honest:
            return  # What a liar signed is given back to it.
        before = self.positions.get(position)
        if before is not None:
            if self._is_held_elsewhere(name, position[2], before):
                self.fail(3, f"{name} has two batches for position {position[1:]}")
            self._conceal(position)
        self.positions[position] = signed

    def _conceal(self, position):
        """Take note of what was signed from there on, and only liars may hold."""
        origin, epoch, batch = position
        self.concealed |= {
            signed
            for place, signed in self.positions.items()
            if place[:2] == (origin, epoch) and place[2] >= batch
        }

    def _is_held_elsewhere(self, name, batch, signed):
        """What a disk took with it that nobody else has, nobody can ever show."""
        me = self.world.nodes[name].peer_id
        held = [
            each.facility.held_of(me).header(batch)
            for each in self.world.nodes.values()
            if each.name != name
        ]
        return any(each is not None and each.header == signed for each in held)

    def conceals(self, name, data):
        """Return whether a liar shows now what it alone was told, and denied to hold when asked.

        Only a partner that conceals can do so; the threat model names it.
        """
        return name in self.world.liars and any(each in data for each in self.concealed)

    def shown_its_own(self, name, *, unknown, forked):
        if unknown:
            self.fail(3, f"{name} was shown a batch of its own and did not know that it lacks it")
        if forked:
            self.fail(3, f"{name} has signed two histories")

    def restored(self, name):
        """What it holds of others is older than it was; its own may end earlier than its copies."""
        self.checked = {each: at for each, at in self.checked.items() if each[0] != name}
        for liar in self.world.liars:
            self.seen.pop((name, liar), None)

    def rewound(self, holder, origin):
        self.checked.pop((holder, origin), None)
        self.rewound_at[holder, origin] = self.world.now
        self.moved(holder, origin)

    # -- 5 and 8: what is held is a beginning of what was signed, in its signed state

    def stored(self, holder, origin):
        """Judge what one store has changed: the headers from the last one judged on."""
        copy = self.world.nodes[holder].facility.held_of(self.world.members[origin].peer_id)
        head = copy.head()
        self.moved(holder, origin)
        if head is not None:
            since = self.checked.get((holder, origin), 0)
            self.checked[holder, origin] = head.batch
            self.only_what_was_signed_is_held(copy, since, holder, origin)
            self.the_state_is_the_signed_one(copy, head, holder, origin)

    def only_what_was_signed_is_held(self, copy, since, holder, origin):
        self.no_hole_is_unexplained(copy, holder, origin)
        author = self.world.members[origin]
        if not author.honest:
            if not headers_of(copy) <= author.signed:
                self.fail(5, f"{holder} holds a header that {origin} did not sign")
            return
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

    def no_hole_is_unexplained(self, copy, holder, origin):
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

    # -- 5: a journal passes through others by its origin's word alone

    def vouched(self, name, statement):
        """Take note of a membership, if its author says it."""
        body = from_bytes(MembershipBody, statement.payload, STATEMENT_BYTES)
        if self.world.members[name].peer_id == body.author:
            self.memberships[statement] = body
            partner = self.world.by_id[body.addressee].name
            self.renewals[name, partner] = self.world.now

    def passed_on(self, relay, reader, origin, statement):
        """Judge what `reader` takes of a third facility, by the membership that came with it."""
        body, ends = self.memberships.get(statement), (origin, self.world.members[relay].peer_id)
        meant = body is not None and (body.author, body.addressee) == ends
        if not meant or self.world.now > body.until + WRONG_CLOCKS_S:
            author = self.world.by_id[origin].name
            self.fail(5, f"{reader} takes of {author} what {relay} passes on without its word")

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

    def moved(self, holder, origin):
        """Take note of a liar's journal that moves: that is told, even where all else is idle."""
        head = self.world.nodes[holder].facility.held_of(self.world.members[origin].peer_id).head()
        if origin in self.world.liars and self.heads.get((holder, origin)) != head:
            self.heads[holder, origin] = head
            self.moves.append((self.world.now, holder))

    def idle_is_quiet(self, seconds):
        since = self.world.now - seconds - LATE_S
        movers = [name for at, name in self.moves if at >= since]
        for (me, partner), sent in sorted(self.world.sent_bytes.items()):
            if self.world.liars.keys() & {me, partner}:
                continue
            due = COMPARED_BYTES * (movers.count(me) + movers.count(partner))
            if self.renewals[me, partner] >= self.world.now - seconds:
                due += VOUCHED_BYTES
            per_hour = (sent - due) * 3600 // seconds
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
        """What a HAVE acknowledges is applied, durably, before it is said.

        A liar can acknowledge what it has not applied, yet nothing that is still to come.
        """
        head = self.world.nodes[me].facility.head()
        if last_seq is not None and last_seq > (head.last_seq if head else 0):
            self.fail("acknowledgement", f"{author} acknowledged what {me} has yet to publish")
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
        open_ends = chain(self.stragglers(), self.untold(), self.unproved())
        return next(open_ends, None) is None

    def check_the_end(self):
        """What must be true some rounds after everything healed."""
        self.all_have_caught_up()
        self.everyone_finds_what_is_published()
        self.checked.clear()
        for origin, holder in self.journals():
            self.stored(holder.name, origin.name)
        self.everyone_is_told()
        self.every_fork_is_proved()
        self.only_what_is_common_is_listed()
        self.nothing_withdrawn_is_left()

    def check_the_quiet(self, seconds):
        self.idle_is_quiet(seconds)
