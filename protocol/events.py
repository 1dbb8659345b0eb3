"""What happens to an exchange, and what it asks to be done: events in, effects out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from protocol.entries import SignedBatch, SignedHeader
from protocol.epochs import SignedEpoch
from protocol.errors import RemoteProtocolError
from protocol.forks import ForkProof
from protocol.identifiers import PeerId
from protocol.journal import Head
from protocol.messages import (
    Batches,
    Epochs,
    Fork,
    Have,
    HaveBody,
    HeldHeader,
    Holding,
    OriginHead,
    Origins,
    Relayed,
    Want,
    WantHeader,
    WantRelayed,
)
from protocol.nodekeys import NodeKeys
from protocol.statements import Statement


@dataclass(frozen=True, slots=True)
class HeldJournal:
    """What is held of one side's journal when the link comes up.

    `keys` verify it.  `incomplete_from`: the first batch with a hole that nothing justifies.
    `forked`: a fork of it is on record, so it is followed no further.  For `joining` see
    `journal.is_joining`.  `early`: the highest header that came before those between it and the
    head, as a HAVE names it; None if there is none.  `linked`: there is a link to its origin.
    `membership`: what the origin has signed for us last.  `ended`: the epoch of `head` has, by a
    record that is kept: what the origin signed in it beyond where the next one begins is void.
    """

    head: Head | None
    keys: NodeKeys
    incomplete_from: int | None = None
    forked: bool = False
    joining: bool = False
    early: OriginHead | None = None
    linked: bool = False
    membership: Statement | None = None
    ended: bool = False


# -- events: what happened --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connected:
    """The link is up.  `jitter_s` delays the next HAVE: a hundred links must not beat as one."""

    jitter_s: int = 0


@dataclass(frozen=True, slots=True)
class Received:
    """The partner's message arrived."""

    message: object


@dataclass(frozen=True, slots=True)
class Loaded:
    """A `Load` was performed; `through` is the number of the last batch, `more` lie beyond it.

    `newest`: the newest header, if batches below its floor are among these.  `epochs`: the records
    of all epochs after the one that the asker holds.
    """

    origin: PeerId
    batches: tuple[SignedBatch, ...]
    through: int
    more: bool
    newest: SignedHeader | None = None
    epochs: tuple[SignedEpoch, ...] = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """A `Store` or a `Regain` was performed, durably.

    `through` is the last batch number judged, `incomplete_from` the first batch held with a hole
    that nothing justifies, and `error` what ended the run before its last batch.  For `joining` and
    `early` see `HeldJournal`.
    """

    origin: PeerId
    head: Head | None
    through: int
    more: bool
    incomplete_from: int | None = None
    error: RemoteProtocolError | None = None
    joining: bool = False
    early: OriginHead | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """A `Begin` was performed, durably: where the journal ends now.

    `forked`: a fork is on record that no later epoch has ended.  For the rest see `HeldJournal`.
    """

    origin: PeerId
    head: Head | None
    incomplete_from: int | None = None
    joining: bool = False
    forked: bool = False
    early: OriginHead | None = None


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A `Witness` was performed, durably."""

    body: HaveBody


@dataclass(frozen=True, slots=True)
class Appended:
    """Our own journal has a new head, durably."""

    head: Head


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: due at `Exchange.wake_at` at the latest."""

    jitter_s: int = 0


@dataclass(frozen=True, slots=True)
class HeaderFound:
    """A `FindHeader` was performed; `header` is None if there is none."""

    origin: PeerId
    batch: int
    header: SignedHeader | None
    because: OriginHead | SignedHeader | None


@dataclass(frozen=True, slots=True)
class ForkKnown:
    """A proof that `origin` told two histories is on record, whoever found it."""

    origin: PeerId
    proof: ForkProof


Event: TypeAlias = (
    Connected
    | Received
    | Loaded
    | Stored
    | Begun
    | Witnessed
    | Appended
    | HeaderFound
    | ForkKnown
    | Tick
)

# -- effects: what to do ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Tell the partner."""

    message: (
        Have
        | Holding
        | Want
        | Epochs
        | Batches
        | Origins
        | WantHeader
        | HeldHeader
        | Fork
        | WantRelayed
        | Relayed
    )


@dataclass(frozen=True, slots=True)
class Store:
    """Follow these batches in one transaction, then feed back `Stored`.

    `newest`: the header that came with them, not verified.
    """

    origin: PeerId
    batches: tuple[SignedBatch, ...]
    more: bool
    newest: SignedHeader | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """Read batches from `from_batch` on, as many as one answer may hold; feed back `Loaded`.

    `epoch` is the one that the asker holds.
    """

    origin: PeerId
    from_batch: int
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Begin:
    """Keep these records of epochs and rewind the journal to where they begin; feed back `Begun`.

    Each is verified first; one that the root key did not sign is refused instead.
    """

    origin: PeerId
    epochs: tuple[SignedEpoch, ...]


@dataclass(frozen=True, slots=True)
class FindHeader:
    """Look one header of our copy of a journal up; feed back `HeaderFound`.

    `because`: what it is to be compared with, None if the partner asked for it.
    """

    origin: PeerId
    epoch: int
    batch: int
    because: OriginHead | SignedHeader | None


@dataclass(frozen=True, slots=True)
class Witness:
    """Keep the partner's signed word about what it holds; feed back `Witnessed`."""

    body: HaveBody
    statement: Statement


@dataclass(frozen=True, slots=True)
class Renew:
    """Note that the partner's last signed word stands: what it says of its own journal and of ours.

    Ours may hold only now what was said of it before, if it was set back meanwhile.
    """

    theirs: OriginHead | None
    ours: OriginHead | None


@dataclass(frozen=True, slots=True)
class Vouch:
    """Sign a membership in our journal for the partner, and tell it (`relay.membership`)."""


@dataclass(frozen=True, slots=True)
class KeepMembership:
    """Keep what the partner has signed for us, in the place of what it signed before."""

    statement: Statement


@dataclass(frozen=True, slots=True)
class Freeze:
    """Keep the proof of a fork, follow the origin no further, alert the operator.

    If it is the first on record, or shows an earlier batch, feed `ForkKnown` to every exchange.
    """

    origin: PeerId
    proof: ForkProof


@dataclass(frozen=True, slots=True)
class Regain:
    """Take back batches of our own journal, which we signed and do not hold, and sign nothing more.

    Our database is older than our word: it was restored from a backup, or copied.  Store what
    continues it in one transaction, then feed back `Stored`.  `newest`: as in `Store`.
    """

    batches: tuple[SignedBatch, ...]
    more: bool
    newest: SignedHeader | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell the partner what it did wrong, and keep an audit record."""

    error: RemoteProtocolError


Effect: TypeAlias = (
    Send
    | Store
    | Load
    | Begin
    | FindHeader
    | Witness
    | Renew
    | Vouch
    | KeepMembership
    | Freeze
    | Regain
    | Refuse
)
