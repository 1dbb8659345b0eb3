"""One link's exchange: how two facilities bring each other's view of their journals up to date.

A state machine without I/O: `handle(event, now)` returns effects, which the caller performs in
order, and whose outcomes it feeds back as events.  The receiver asks from its own cursor and the
sender remembers nothing beyond the link.  What is stored is durable before anything is said about
it: a HAVE follows `Stored`, never precedes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from protocol.comparison import Others
from protocol.errors import (
    BadSignature,
    Expired,
    Gap,
    Incomplete,
    RemoteProtocolError,
    Replayed,
    UnknownMessage,
    WrongAddressee,
)
from protocol.events import (
    Appended,
    Begin,
    Begun,
    Connected,
    Effect,
    Event,
    ForkKnown,
    Freeze,
    HeaderFound,
    HeldJournal,
    Load,
    Loaded,
    Received,
    Refuse,
    Renew,
    Send,
    Store,
    Stored,
    Tick,
    Witness,
    Witnessed,
)
from protocol.forks import ForkFound
from protocol.frontier import claimed, have_body, is_ahead, next_batch
from protocol.identifiers import PeerId
from protocol.journal import Head, epoch_of
from protocol.limits import BACK_OFF_MOST_S, EXCHANGE_S, HAVE_BYTES, WANT_S
from protocol.messages import (
    HAVE_DOMAIN,
    Batches,
    Epochs,
    Have,
    HaveBody,
    Holding,
    OriginHead,
    Origins,
    Refused,
    Want,
)
from protocol.records import to_bytes
from protocol.regaining import Regaining
from protocol.renewal import Renewal, by_origin, holding_digest
from protocol.statements import Statement, open_addressed
from protocol.thirds import Thirds

_FIRST_BACK_OFF_S: Final = EXCHANGE_S
_OF_NO_WANT: Final = {UnknownMessage.code, BadSignature.code, Expired.code}  # Another was meant.
_NOBODY: Final[Mapping[PeerId, HeldJournal]] = {}


class Exchange:
    """The exchange over one link between `me` and `partner`.

    `sign` signs the bytes of a HAVE in the domain "have"; one is sent every `interval_s` seconds.
    """

    def __init__(
        self,
        me: PeerId,
        partner: PeerId,
        own: HeldJournal,
        theirs: HeldJournal,
        sign: Callable[[bytes], bytes],
        interval_s: int = EXCHANGE_S,
        others: Others = dict,
    ) -> None:
        self.me = me
        self.partner = partner
        self.theirs = theirs.head
        self.wake_at = 0
        self._partner_key = theirs.keys[-1].public
        self._incomplete_from = theirs.incomplete_from
        self._frozen = theirs.forked
        self._joining = theirs.joining
        self._early = theirs.early
        self._sign = sign
        self._interval_s = interval_s
        self._jitter_s = 0
        self._announced: int | None = None
        self._in_step_at: int | None = None
        self._claim: OriginHead | None = None
        self._asked_until = 0
        self._back_off_until = 0
        self._failures = 0
        self._thirds = Thirds(me, partner, theirs.keys, others)
        self._renewal = Renewal(me, partner)
        self._regaining = Regaining(me, own)

    @property
    def own(self) -> Head | None:
        """Where our own journal ends."""
        return self._regaining.head

    def handle(self, event: Event, now: int) -> list[Effect]:
        """Return what is to be done about `event`, in order.  `now`: Unix seconds."""
        self._bound_pauses(now)
        try:
            match event:
                case Connected(jitter_s):
                    self._jitter_s = jitter_s
                    return [*self._thirds.introduce(now), self._have(now)]
                case Received(message):
                    return self._received(message, now)
                case Loaded() | Stored() | Begun() | Witnessed() | HeaderFound():
                    return self._done(event, now)
                case Appended(head):
                    return self._appended(head, now)
                case ForkKnown(origin, proof):
                    self._frozen = self._frozen or origin == self.partner
                    return self._thirds.fork_known(origin, proof, now)
                case Tick(jitter_s):
                    self._jitter_s = jitter_s
                    return self._tick(now)
        except RemoteProtocolError as error:
            return [Refuse(error)]

    # -- what the partner says

    def _received(self, message: object, now: int) -> list[Effect]:
        match message:
            case Have() | Holding():
                return self._told(message, now)
            case Want():
                return self._wanted(message)
            case Epochs() | Batches():
                return self._given(message)
            case Refused(code):
                if code not in _OF_NO_WANT and now < self._asked_until:
                    self._back_off(now)
                return []
            case Origins():
                effects, common = self._thirds.received(message, now), self._thirds.common()
                return [*effects, self._have(now, whole=True)] if common else effects
            case _:
                return self._thirds.received(message, now)

    def _told(self, message: Have | Holding, now: int) -> list[Effect]:
        match message:
            case Have(statement):
                return self._heard(statement, now)
            case Holding():
                return self._renewed(message, now)

    def _heard(self, statement: Statement, now: int) -> list[Effect]:
        body = open_addressed(
            statement,
            HAVE_DOMAIN,
            HaveBody,
            key=self._partner_key,
            author=self.partner,
            me=self.me,
            now=now,
            limit=HAVE_BYTES,
        )
        self._renewal.check(body)
        effects: list[Effect] = [Witness(body, statement)]
        ours = claimed(body, self.me)
        effects += self._regaining.heard(ours)
        if is_ahead(ours, self.own):
            pass  # It is asked for: we are behind ourselves.
        elif ours is not None and self.own is not None and _is_at(ours, self.own):
            self._in_step_at = ours.batch
        elif self.own is not None and self._announced != self.own.batch:
            effects.append(self._have(now))
        self._claim = claimed(body, self.partner)
        return effects + self._thirds.heard(by_origin(body), now) + self._ask(now)

    def _renewed(self, message: Holding, now: int) -> list[Effect]:
        effects: list[Effect] = []
        if message.asks:
            effects = [*self._thirds.introduce(now, again=True), self._have(now, whole=True)]
        common = self._thirds.common()
        held = by_origin(self._body(now, common))
        theirs = self._renewal.renewed(message.digest, held, now, common)
        if theirs is not None:
            effects.append(Renew(theirs.get(self.partner), theirs.get(self.me)))
            effects += self._regaining.heard(theirs.get(self.me))
            return effects + self._thirds.heard(theirs, now) + self._ask(now)
        if not message.asks:  # Never question against question.
            self._renewal.forget()
            effects.append(self._holding(now, asks=True))
        return effects

    def _wanted(self, want: Want) -> list[Effect]:
        heads = {self.me: self.own, self.partner: self.theirs}
        origin = PeerId(want.origin)
        if origin not in heads:
            msg = "asks for a journal that this link does not carry"
            raise WrongAddressee(msg)
        head = heads[origin]
        if head is None or (want.epoch == head.epoch and want.from_batch > head.batch):
            return []
        if want.epoch > head.epoch:
            msg = "asks for an epoch that is not held"
            raise Gap(msg)
        return [Load(origin, want.from_batch, want.epoch)]

    def _given(self, message: Epochs | Batches) -> list[Effect]:
        """Take what the partner has of its own journal, or of ours."""
        if message.origin not in {self.me, self.partner}:
            msg = "a part of a journal that this link does not carry"
            raise WrongAddressee(msg)
        match message:
            case Epochs(origin, epochs):
                return [Begin(PeerId(origin), epochs)]
            case Batches(origin, batches, more, newest):
                if origin == self.me:
                    return self._regaining.given(batches, newest, more=more)
                self._asked_until = 0
                return [] if self._frozen else [Store(self.partner, batches, more, newest)]

    # -- what was done

    def _done(
        self, event: Loaded | Stored | Begun | Witnessed | HeaderFound, now: int
    ) -> list[Effect]:
        match event:
            case Loaded() | Stored() | HeaderFound() if not self._carries(event.origin):
                return self._thirds.done(event, now)
            case Loaded():
                return self._loaded(event)
            case Stored():
                return self._stored(event, now)
            case Begun():
                return self._begun(event, now)
            case HeaderFound(origin, _, _, OriginHead() as claim) if origin == self.me:
                return self._regaining.found(event, claim)
            case Witnessed(body):
                self._renewal.heard(body, now, self._thirds.common())
                return []
            case HeaderFound():
                return self._thirds.done(event, now)

    def _carries(self, origin: PeerId) -> bool:
        return origin in {self.me, self.partner}

    def _loaded(self, event: Loaded) -> list[Effect]:
        told: list[Effect] = [Send(Epochs(event.origin, event.epochs))] if event.epochs else []
        if not event.batches:
            return told
        if event.origin == self.me:
            self._in_step_at = None if event.more else event.through
        return [*told, Send(Batches(event.origin, event.batches, event.more, event.newest))]

    def _begun(self, event: Begun, now: int) -> list[Effect]:
        """Go on from where a journal ends after its new epochs were taken note of.

        Of our own this may be the first that is heard of a batch: what is appended at the same time
        is no news when it is reported.
        """
        if event.origin == self.me:
            self._regaining.begun(event)
            told = self.own is None or self._announced in {None, self.own.batch}
            return [] if told else [self._have(now)]
        self.theirs, self._incomplete_from = event.head, event.incomplete_from
        self._joining, self._frozen = event.joining, event.forked
        self._early = event.early
        return []

    def _stored(self, event: Stored, now: int) -> list[Effect]:
        if event.origin == self.me:
            before = self.own
            asked = self._regaining.stored(event)
            return asked if asked or before == self.own else [self._have(now)]
        advanced = event.head != self.theirs
        self.theirs = event.head
        self._incomplete_from = event.incomplete_from
        self._joining, self._early = event.joining, event.early
        effects: list[Effect] = []
        # Batches that are held and fill nothing may hide a hole that the next ones justify.
        goes_on = event.error is None or isinstance(event.error, Replayed)
        if goes_on and event.more and event.head is not None:
            self._asked_until = now + WANT_S
            return [Send(Want(self.partner, event.head.epoch, event.through + 1))]
        if advanced:
            effects.append(self._have(now))
        if event.error is not None:
            return effects + self._failed(event.error, now)
        if self._incomplete_from is not None:
            msg = "a batch has a hole that no signed entry justifies; send it again"
            self._back_off(now)
            return [*effects, Refuse(Incomplete(msg))]
        self._failures = 0
        return effects

    def _failed(self, error: RemoteProtocolError, now: int) -> list[Effect]:
        match error:
            case ForkFound():
                self._frozen = True
                return [Freeze(self.partner, error.proof), Refuse(error)]
            case Gap():
                return self._ask(now, known_gap=True)
            case Replayed():
                return [Refuse(error)]
            case _:
                self._back_off(now)
                return [Refuse(error)]

    def _appended(self, head: Head, now: int) -> list[Effect]:
        if self.own is not None and (head.epoch, head.batch) <= (self.own.epoch, self.own.batch):
            return []  # Heads may be reported out of order; the newest is the one to speak of.
        before, self._regaining.head = self.own, head
        if self._in_step_at is not None and self._in_step_at < head.batch:
            return [Load(self.me, self._in_step_at + 1, epoch_of(before))]
        return [] if self._announced in {None, head.batch} else [self._have(now)]

    def _tick(self, now: int) -> list[Effect]:
        due: list[Effect] = []
        if now >= self.wake_at:
            news = self._renewal.is_due(by_origin(self._body(now)), now)
            word = self._have(now) if news else self._holding(now)
            due = [*self._thirds.introduce(now), word]
        return due + self._ask(now)

    # -- what we say

    def _have(self, now: int, *, whole: bool = False) -> Send:
        """Sign what we hold of the two journals of the link; `whole`: and of all that both list."""
        body = self._body(now, self._thirds.common() if whole else {})
        payload = to_bytes(body)
        self._announced = -1 if self.own is None else self.own.batch
        self._renewal.said(by_origin(body), now)
        self._wait(now)
        return Send(Have(Statement(payload, self._sign(payload))))

    def _holding(self, now: int, *, asks: bool = False) -> Send:
        held = by_origin(self._body(now, self._thirds.common()))
        self._wait(now)
        return Send(Holding(holding_digest(self.me, self.partner, held), asks))

    def _body(self, now: int, others: Mapping[PeerId, HeldJournal] = _NOBODY) -> HaveBody:
        held = {each: its.head for each, its in others.items()}
        held |= {self.me: self.own, self.partner: self.theirs}
        joining = {each for each, its in others.items() if its.joining}
        if self._joining:
            joining.add(self.partner)
        return have_body(self.me, self.partner, held, now, joining, self._early)

    def _wait(self, now: int) -> None:
        self.wake_at = now + self._interval_s + self._jitter_s

    def _ask(self, now: int, *, known_gap: bool = False) -> list[Effect]:
        """Ask for what the partner's journal has beyond ours, unless asked or failed just now."""
        epoch = epoch_of(self.theirs)
        thawing = self._claim is not None and self._claim.epoch > epoch
        frozen = self._frozen and not thawing
        if frozen or now < self._asked_until or now < self._back_off_until:
            return []
        if self._incomplete_from is not None:
            start = self._incomplete_from
        elif self._claim is not None and is_ahead(self._claim, self.theirs):
            start = next_batch(self._claim, self.theirs)
        elif known_gap:
            start = 0 if self.theirs is None else self.theirs.batch + 1
        else:
            return []
        self._asked_until = now + WANT_S
        return [Send(Want(self.partner, epoch, start))]

    def _bound_pauses(self, now: int) -> None:
        """Wait for nothing longer than was meant, should the clock have been set back by hours."""
        self.wake_at = min(self.wake_at, now + self._interval_s + self._jitter_s)
        self._asked_until = min(self._asked_until, now + WANT_S)
        self._back_off_until = min(self._back_off_until, now + BACK_OFF_MOST_S)
        self._renewal.bound(now)

    def _back_off(self, now: int) -> None:
        delay = min(_FIRST_BACK_OFF_S << min(self._failures, 16), BACK_OFF_MOST_S)
        self._failures += 1
        self._back_off_until = now + delay


def _is_at(claim: OriginHead, head: Head) -> bool:
    """Return whether all up to `head` is held by whoever makes the claim."""
    return (claim.batch, claim.last_seq) == (head.batch, head.last_seq)
