"""What stands on clinicians' screens: studies that a search has just listed.

A study may be withdrawn while its line is still on a screen.  Whoever then asks for it is owed the
origin's own answer and its reason, so the handle is kept a while: in memory alone, without the key
that opened it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from peer.clock import Clock
from peer.config import Search
from protocol.digest import StudyDigest
from protocol.identifiers import PeerId
from protocol.matching.keys import Demographics


@dataclass(frozen=True, slots=True)
class KnownPrior:
    """A partner's study as its digest tells it: what a retrieval starts from."""

    origin: PeerId
    digest: StudyDigest
    patient: Demographics

    @property
    def retrieve_handle(self) -> bytes:
        """Names the study to its origin, 16 B."""
        return self.digest.retrieve_handle


class Shown:
    """The studies listed in the last `search.shown_s` seconds, at most `search.max_shown`."""

    def __init__(self, clock: Clock, settings: Search) -> None:
        self._clock = clock
        self._for_s = settings.shown_s
        self._most = settings.max_shown
        self._lines: OrderedDict[tuple[PeerId, str], tuple[KnownPrior, int]] = OrderedDict()

    def note(self, priors: Iterable[KnownPrior]) -> None:
        """Remember what a search has listed."""
        now = self._clock.now()
        for prior in priors:
            key = (prior.origin, prior.digest.study_instance_uid)
            self._lines[key] = (prior, now)
            self._lines.move_to_end(key)
        while self._lines and self._is_old(next(iter(self._lines.values()))[1], now):
            self._lines.popitem(last=False)

    def get(self, facility: PeerId, study_instance_uid: str) -> KnownPrior | None:
        """Return a study that was listed a short while ago."""
        prior, shown_at = self._lines.get((facility, study_instance_uid), (None, 0))
        return None if self._clock.now() - shown_at > self._for_s else prior

    def forget(self, facility: PeerId) -> None:
        """Forget a partner that was removed."""
        for key in [key for key in self._lines if key[0] == facility]:
            del self._lines[key]

    def _is_old(self, shown_at: int, now: int) -> bool:
        return now - shown_at > self._for_s or len(self._lines) > self._most
