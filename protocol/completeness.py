"""How complete what a partner shares is: estimated from studies that are known to be there.

Completeness cannot be proved from outside.  It can be checked with studies of which this facility
knows from elsewhere than from the partner: whatever the partner told of, by notice or by grant, it
chose itself.  Whether a check counts is settled before its result is looked at, or the estimate
would lean to one side.  Of m studies that are all found, at least
1 - 3/m of all are shared, at a confidence of 95 % (the rule of three); with misses the exact bound
holds (Clopper and Pearson, Biometrika 26 (1934) 404).
Specification: docs/protocol/reciprocity.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

CONFIDENCE: Final = 0.95
"""How sure a bound is: one estimate in twenty may be too good."""

SETTLED_DAYS: Final = 7
"""A study that is younger may still be read, reported or agreed to; it proves nothing."""

COUNTED_DAYS: Final = 365
"""For so long after the study it is to be available (HCPCS G9340), and a consent holds unless the
patient says otherwise; of an older one nobody here knows whether it should be found.  Checks older
than that say nothing of today either."""

_HALVINGS: Final = 60
"""Steps of a bisection: more than a double can tell apart."""


class Verdict(StrEnum):
    """What one look for a study came to."""

    FOUND = "found"
    MISSED = "missed"
    UNCHECKED = "unchecked"
    """It could not be looked for; says nothing for or against the partner."""


@dataclass(frozen=True, slots=True)
class Study:
    """A study, known or published.  study_date: YYYYMMDD.  '' or empty: unknown."""

    study_instance_uid: str = ""
    study_date: str = ""
    accession_number: str = ""
    modalities: frozenset[str] = frozenset()

    def is_shown_by(self, published: Study) -> bool:
        """Return whether a published study of the same patient is this one.

        The Study Instance UID decides if it is known, then the accession number, then the date.
        Modalities narrow the choice.
        """
        if self.study_instance_uid:
            return self.study_instance_uid == published.study_instance_uid
        if self.accession_number and published.accession_number:
            if self.accession_number != published.accession_number:
                return False
        elif self.study_date != published.study_date:
            return False
        return not self.modalities or bool(self.modalities & published.modalities)


@dataclass(frozen=True, slots=True)
class Look:
    """What a search for the patient showed of the partner's studies.

    `uncovered`: the code of the reason for which the partner was not searched, '' if it was.
    """

    published: tuple[Study, ...] = ()
    uncovered: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """How a check came out.

    `study_instance_uid`: of what was found, '' otherwise.  `code`: why the check does not count, ''
    if it does.
    """

    verdict: Verdict
    study_instance_uid: str = ""
    code: str = ""


TOO_RECENT: Final = "too-recent"
TOO_OLD: Final = "too-old"


def judge(known: Study, look: Look, today: date) -> Checked:
    """Return what a look for a study says of the partner that is known to have it."""
    shown = (each for each in look.published if known.is_shown_by(each))
    found = next((each.study_instance_uid for each in shown), "")
    if code := look.uncovered or _beyond(known.study_date, today):
        return Checked(Verdict.UNCHECKED, found, code)
    return Checked(Verdict.FOUND, found) if found else Checked(Verdict.MISSED)


def _beyond(study_date: str, today: date) -> str:
    """Return why a study of this date proves nothing, or ''."""
    if study_date > _days_before(today, SETTLED_DAYS):
        return TOO_RECENT
    return TOO_OLD if study_date < _days_before(today, COUNTED_DAYS) else ""


def _days_before(today: date, days: int) -> str:
    return f"{date.fromordinal(today.toordinal() - days):%Y%m%d}"


@dataclass(frozen=True, slots=True)
class Tally:
    """How many checks of a partner came out in which way."""

    found: int = 0
    missed: int = 0
    unchecked: int = 0

    @property
    def checks(self) -> int:
        """How many say something."""
        return self.found + self.missed

    @property
    def complete_at_least(self) -> float | None:
        """What share of its studies the partner shows at least, at CONFIDENCE; None: unknown."""
        if not self.checks:
            return None
        return least_share(self.found, self.checks)

    @property
    def sentence(self) -> str:
        """The estimate in words."""
        least = self.complete_at_least
        if least is None:
            return "Not checked yet: no study is named here that was made there."
        of = f"{self.checks} {'check' if self.checks == 1 else 'checks'}"
        percent = f"at least {math.floor(100 * least)}% complete at 95% confidence"
        if not self.missed:
            return f"{percent.capitalize()}, from {of} without a miss."
        if not self.found:
            return f"Nothing of what was looked for is to be found, in {of}."
        return f"{self.missed} of {of} found nothing; {percent}."


def tally(verdicts: Iterable[str]) -> Tally:
    """Return how many of the verdicts are which."""
    said = [Verdict(each) for each in verdicts]
    return Tally(
        said.count(Verdict.FOUND), said.count(Verdict.MISSED), said.count(Verdict.UNCHECKED)
    )


def least_share(found: int, checks: int) -> float:
    """Return the one-sided lower bound of a proportion, exactly (Clopper-Pearson).

    It is the share at which that many or more of the checks would be found in one case of twenty.
    """
    if found == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _at_least(found, checks, middle) < 1 - CONFIDENCE:
            low = middle
        else:
            high = middle
    return low


def _at_least(found: int, checks: int, share: float) -> float:
    """Return the probability of `found` or more successes of `checks`, each with `share`."""
    if share <= 0.0:
        return 0.0
    yes, no = math.log(share), math.log1p(-share)
    return math.fsum(
        math.exp(
            math.lgamma(checks + 1)
            - math.lgamma(each + 1)
            - math.lgamma(checks - each + 1)
            + each * yes
            + (checks - each) * no
        )
        for each in range(found, checks + 1)
    )
