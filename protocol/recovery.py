"""When a facility may sign its own journal: after each start, and after it was set back.

A node whose data was restored from a backup, copied or rolled back no longer knows how far its
journal had come.  Its partners do.  `Pen` is the rule that keeps it from signing a position twice:
a value without I/O; the caller tells it what partners say and asks before each signature.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from protocol.identifiers import PeerId
from protocol.limits import FIRST_ANSWER_S, RECOVERY_S, STOPPED_S, WANT_S
from protocol.messages import OriginHead


class Pause(StrEnum):
    """Why nothing is signed at present."""

    STARTING = "starting"
    """No partner has said since the start what it holds of our journal."""
    CLAIMED = "claimed"
    """A partner names a header of our journal that is not held here; it was asked to show it."""
    BEHIND = "behind"
    """The journal was set back; its lost end is fetched from the partners."""
    FORKED = "forked"
    """Two histories of our journal bear our signature."""


@dataclass(frozen=True, slots=True)
class Pen:
    """Whether this facility may sign, judged from what its partners say.

    partners: all active ones of the table.  answers: what each has said since the start that it
    holds of our journal, None for nothing.  doubts: since when a partner's claim to hold more than
    we do has not been shown to be true.  stopped: when such a claim last stopped us, by partner,
    whatever it has said since.  set_back_at: when it was found that the journal was set
    back; None: it was not, as far as is known.  Instants are Unix seconds.
    """

    started_at: int
    partners: frozenset[PeerId] = frozenset()
    answers: Mapping[PeerId, OriginHead | None] = field(default_factory=dict)
    doubts: Mapping[PeerId, int] = field(default_factory=dict)
    stopped: Mapping[PeerId, int] = field(default_factory=dict)
    set_back_at: int | None = None
    forked: bool = False

    def pause(self, now: int) -> Pause | None:
        """Return why nothing may be signed at `now`; None: sign."""
        if self.forked:
            return Pause.FORKED
        if self.set_back_at is not None:
            return Pause.BEHIND
        if any(since <= now < since + WANT_S for since in self.doubts.values()):
            return Pause.CLAIMED
        waits = self.started_at <= now < self.started_at + FIRST_ANSWER_S
        if waits and self.partners and not self.partners & self.answers.keys():
            return Pause.STARTING
        return None

    def among(self, partners: Collection[PeerId]) -> Pen:
        """Return the pen once these are the active partners."""
        known = frozenset(partners)
        return replace(
            self,
            partners=known,
            answers={each: claim for each, claim in self.answers.items() if each in known},
            doubts={each: since for each, since in self.doubts.items() if each in known},
            stopped={each: since for each, since in self.stopped.items() if each in known},
        )

    def heard(self, partner: PeerId, claim: OriginHead | None, now: int, *, held: bool) -> Pen:
        """Return the pen after a partner's HAVE; `held`: we hold the header that it names.

        A claim that is not held stops the pen at once, and for as long as an honest partner needs
        to show what it claims; who never shows it stops nobody by saying it again, nor, within
        STOPPED_S, by taking it back and saying it again.
        """
        doubts = {each: since for each, since in self.doubts.items() if each != partner}
        stopped = dict(self.stopped)
        if not held:
            last = stopped.get(partner, now)
            stopped[partner] = last if abs(now - last) < STOPPED_S else now
            doubts[partner] = self.doubts.get(partner, stopped[partner])
        answers = {**self.answers, partner: claim}
        return replace(self, answers=answers, doubts=doubts, stopped=stopped)

    def set_back(self, now: int) -> Pen:
        """Return the pen of a journal that lacks what it had signed."""
        return self if self.set_back_at is not None else replace(self, set_back_at=now)

    def found_fork(self) -> Pen:
        """Return the pen of a journal of which a partner holds another history."""
        return replace(self, forked=True)

    def recovered(self, now: int) -> Pen:
        """Return the pen of a journal that lacks nothing any more."""
        return replace(self, started_at=now, set_back_at=None, forked=False, doubts={}, stopped={})

    def unheard(self) -> frozenset[PeerId]:
        """Return the partners that have not said yet what they hold of our journal."""
        return self.partners - self.answers.keys()

    def may_continue(self, holds: Callable[[OriginHead], bool]) -> bool:
        """Return whether a journal that was set back may go on in the same epoch.

        So it may if every partner in the table has answered and we hold every header that any of
        them names; without partners at once.
        """
        named = [claim for each, claim in self.answers.items() if each in self.partners]
        return (
            self.set_back_at is not None
            and not self.forked
            and not self.unheard()
            and all(claim is None or holds(claim) for claim in named)
        )

    def epoch_due_at(self) -> int | None:
        """Return from when on a new epoch may begin without waiting for the rest; None: no need."""
        return None if self.set_back_at is None else self.set_back_at + RECOVERY_S
