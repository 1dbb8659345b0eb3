"""Whom an origin answers: a partner whose journal is here, as far as that partner said it goes.

Both sides exchange first and ask after.  Only a standing refusal by policy is answered in kind;
whatever the next exchange or a little time mends never is, so that no two facilities can wait for
each other.  Specification: docs/protocol/reciprocity.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from protocol.consent import PurposeOfUse
from protocol.errors import Refusal
from protocol.frontier import is_ahead, is_fresh
from protocol.limits import CLOCK_WARNING_S, EXCHANGED_S, WANT_S

if TYPE_CHECKING:
    from protocol.journal import Head
    from protocol.messages import OriginHead

EXCHANGE_STALE: Final = "exchange-stale"
EXCHANGE_INCOMPLETE: Final = "exchange-incomplete"
LEASE_OVER: Final = "lease-over"
JOURNAL_FORKED: Final = "journal-forked"
NOT_ANSWERED: Final = "not-answered"

_POLICY: Final = frozenset({"not-a-partner"})
"""Refusals that say "we do not deal with you": the only ones that are answered in kind.  Everything
else, codes that are unknown here among them, passes by itself or concerns one request alone."""

_MENDED: Final = frozenset({EXCHANGE_STALE, EXCHANGE_INCOMPLETE, LEASE_OVER})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the exchange of one partner's journal has come.  Instants: Unix seconds.

    `announced`: its newest head by its own word, None if it never named one.  `outstanding_since`:
    since when that is not held whole.  `advanced_at`: when something of it last came.
    `completed_at`: when everything that was announced was last held.  `failed_at`: when something
    that came could last not be kept, by a fault of this side.
    """

    announced: OriginHead | None = None
    outstanding_since: int | None = None
    advanced_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None

    def heard(
        self, claim: OriginHead | None, head: Head | None, now: int, *, whole: bool
    ) -> Progress:
        """Return the progress after a HAVE in which the partner named `claim` of its own journal.

        `head` is what is held of it; `whole`: no live entry lacks its body without reason.
        """
        if claim is not None and whole and not is_ahead(claim, head):
            return Progress(claim, completed_at=now)
        since = now if self.outstanding_since is None else self.outstanding_since
        return replace(self, announced=claim, outstanding_since=since)

    def stored(self, head: Head | None, now: int, *, whole: bool, advanced: bool) -> Progress:
        """Return the progress after batches were kept; `advanced`: the head moved."""
        moved = advanced or self.outstanding_since is not None
        if moved and whole and self.announced and not is_ahead(self.announced, head):
            return Progress(self.announced, completed_at=now)
        advanced_at = now if advanced else self.advanced_at
        return replace(self, advanced_at=advanced_at, failed_at=None)

    def rewound(self, head: Head | None, now: int, *, whole: bool) -> Progress:
        """Return the progress after an epoch made void some of what was held, down to `head`.

        No exchange stands that was completed with what is held no more.
        """
        if whole and not is_ahead(self.announced, head):
            return self
        since = now if self.outstanding_since is None else self.outstanding_since
        return replace(self, outstanding_since=since, completed_at=None)

    def failed(self, now: int) -> Progress:
        """Return the progress after this side could not keep what came."""
        return replace(self, failed_at=now)

    def completed_since(self, claim: OriginHead | None, then: int) -> bool:
        """Return whether all up to `claim` and beyond is held, and was asked about since `then`."""
        if claim is None or self.announced is None or self.completed_at is None:
            return False
        if self.outstanding_since is not None:
            return False
        reached = (self.announced.epoch, self.announced.batch) >= (claim.epoch, claim.batch)
        return reached and self.completed_at >= then

    def completed_lately(self, now: int) -> bool:
        """Return whether an exchange was completed within EXCHANGED_S."""
        return _lately(self.completed_at, now, EXCHANGED_S)

    def failed_lately(self, now: int) -> bool:
        """Return whether it was this side within EXCHANGED_S that kept it from being completed."""
        return _lately(self.failed_at, now, EXCHANGED_S)

    def is_completing(self, now: int) -> bool:
        """Return whether the rest is coming in just now, and has not been for too long.

        A partner that announces a head and then gives little or nothing is not completing.
        """
        coming = _lately(self.advanced_at, now, WANT_S)
        return coming and _lately(self.outstanding_since, now, EXCHANGED_S)


@dataclass(frozen=True, slots=True)
class HeardRefusal:
    """The last thing that a partner refused us, and when."""

    code: str
    at: int


def breaks_glass(purpose: str) -> bool:
    """Return whether a purpose of use passes the gate whatever stands against it."""
    return purpose == PurposeOfUse.BTG


def is_policy(code: str) -> bool:
    """Return whether a refusal is one by policy, which may be answered in kind."""
    return code in _POLICY


def is_mended_by_exchange(code: str) -> bool:
    """Return whether the asker can do something about a refusal: exchange at once, ask again."""
    return code in _MENDED


def objection(
    progress: Progress,
    head: Head | None,
    now: int,
    *,
    forked: bool = False,
    refused: HeardRefusal | None = None,
) -> Refusal | None:
    """Return why a partner's evaluation or request for a study is not answered now, or None.

    `head`: what is held of its journal; `forked`: it signed two histories; `refused`: what it last
    refused us, which counts until the next exchange is completed.
    """
    if forked:
        return Refusal(
            JOURNAL_FORKED,
            "Your facility has signed two histories of its journal, and neither can be relied on.",
            "The operators of both facilities must talk.",
        )
    if refused is not None and is_policy(refused.code) and _outlasts(refused, progress):
        return Refusal(
            NOT_ANSWERED,
            f"Your facility does not answer this one ({refused.code}).",
            "Answer its questions; this ends with the next exchange after that.",
        )
    if progress.failed_lately(now) or progress.is_completing(now):
        return None
    if not progress.completed_lately(now):
        if progress.announced is not None and progress.outstanding_since is not None:
            return Refusal(
                EXCHANGE_INCOMPLETE,
                "Your facility has announced more of its journal than it has sent.",
                "Send the rest, then ask again; a node does both by itself.",
            )
        return Refusal(
            EXCHANGE_STALE,
            f"No exchange with your facility was completed in the last {EXCHANGED_S // 60} "
            "minutes.",
            "Exchange journals, then ask again; a node does both by itself.",
        )
    if not is_fresh(head, now):
        return Refusal(
            LEASE_OVER,
            "The newest head of your facility's journal vouches for nothing at this moment.",
            "Sign a fresh head; a running node does so by itself. Compare the clocks if it has.",
        )
    return None


def _lately(at: int | None, now: int, within_s: int) -> bool:
    """Return whether that was within so many seconds; what lies ahead: the clock has gone back."""
    return at is not None and -CLOCK_WARNING_S <= now - at <= within_s


def _outlasts(refused: HeardRefusal, progress: Progress) -> bool:
    return progress.completed_at is None or refused.at >= progress.completed_at
