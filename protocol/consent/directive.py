"""What a patient consents to: which studies, for whom, what for, and how long."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from protocol.identifiers import PatientIdentifier

MINIMUM_PERIOD_YEARS: Final = 1
"""A study stays available for twelve months from its Study Date, unless the patient says less."""

EVERYONE: Final = "*"
"""As the recipient of a request: all partners, present and future."""

ACCOMPANYING_MODALITIES: Final = frozenset(
    {"AU", "DOC", "FID", "KO", "PLAN", "PR", "REG", "RWV", "SEG", "SR"}
)
"""Reports, marks and key images go with the study they describe: they do not decide its kind."""

_SECONDS_PER_DAY: Final = 86_400
_EPOCH: Final = date(1970, 1, 1)
_LATEST_ZONE_S: Final = 12 * 3600
"""A Study Date has no time zone: the day ends last at UTC-12."""
_DA: Final = re.compile(r"[0-9]{8}")


class PurposeOfUse(StrEnum):
    """Why images are looked at (HL7 v3 PurposeOfUse, 2.16.840.1.113883.1.11.20448)."""

    TREAT = "TREAT"
    ETREAT = "ETREAT"
    BTG = "BTG"
    PATRQT = "PATRQT"
    FAMRQT = "FAMRQT"
    HPAYMT = "HPAYMT"
    HOPERAT = "HOPERAT"
    HRESCH = "HRESCH"
    PUBHLTH = "PUBHLTH"


_BROADER: Final[dict[str, str]] = {
    PurposeOfUse.BTG: PurposeOfUse.ETREAT,
    PurposeOfUse.ETREAT: PurposeOfUse.TREAT,
}
"""Emergency treatment is treatment, and breaking the glass is emergency treatment."""

_PURPOSE_WORDS: Final[dict[str, str]] = {
    PurposeOfUse.TREAT: "treatment",
    PurposeOfUse.ETREAT: "emergency treatment",
    PurposeOfUse.BTG: "break-glass access",
    PurposeOfUse.PATRQT: "requests of the patient",
    PurposeOfUse.FAMRQT: "requests of the family",
    PurposeOfUse.HPAYMT: "payment",
    PurposeOfUse.HOPERAT: "healthcare operations",
    PurposeOfUse.HRESCH: "research",
    PurposeOfUse.PUBHLTH: "public health",
}


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What a decision may depend on of a study; `held_back` marks it as sensitive."""

    study_instance_uid: str
    study_date: str = ""
    modalities: frozenset[str] = frozenset()
    body_parts: frozenset[str] = frozenset()
    held_back: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """Which studies a directive is about.

    "listed" means `study_instance_uids`; "matching" means every criterion that is given, of which
    there must be one.  The ends of the date range belong to it.
    """

    kind: Literal["all", "listed", "matching"] = "all"
    study_instance_uids: frozenset[str] = frozenset()
    modalities: frozenset[str] = frozenset()
    study_date_from: str = ""
    study_date_to: str = ""
    body_parts: frozenset[str] = frozenset()

    def covers(self, study: StudyFacts) -> bool:
        """Return whether `study` is in this scope; a fact that is unknown does not qualify."""
        if self.kind == "all":
            return True
        if self.kind == "listed":
            return study.study_instance_uid in self.study_instance_uids
        return self.has_criteria and self._matches(study)

    @property
    def has_criteria(self) -> bool:
        """Whether there is anything to match by."""
        period = self.study_date_from or self.study_date_to
        return bool(self.modalities or self.body_parts or period)

    def _matches(self, study: StudyFacts) -> bool:
        kinds = study.modalities - ACCOMPANYING_MODALITIES or study.modalities
        if self.modalities and not (kinds and kinds <= self.modalities):
            return False
        if self.body_parts and not (study.body_parts and study.body_parts <= self.body_parts):
            return False
        if not self.study_date_from and not self.study_date_to:
            return True
        if _day(study.study_date) is None:
            return False
        return (
            (self.study_date_from or "00000000")
            <= study.study_date
            <= (self.study_date_to or "99999999")
        )


@dataclass(frozen=True, slots=True)
class Recipients:
    """Who may receive: all partners or the `named` ones, never the `excluded`; ids are hex."""

    all_partners: bool = False
    named: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()

    def admits(self, recipient: str | None) -> bool:
        """Return whether `recipient` may receive; EVERYONE if no one is left out.

        None asks whether there is any recipient at all.
        """
        if recipient is None:
            return self.all_partners or bool(self.named - self.excluded)
        if recipient == EVERYONE:
            return self.all_partners and not self.excluded
        return (self.all_partners or recipient in self.named) and recipient not in self.excluded


ALL_PARTNERS: Final = Recipients(all_partners=True)


@dataclass(frozen=True, slots=True)
class Directive:
    """A patient's recorded consent.

    patient: the identifiers it is recorded under.  grantor: who gave it (the patient, or who
    stands in).  expires_at: None for no end.  evidence_hash: hex SHA-256 of the signed form, or ''.
    """

    directive_id: str
    patient: tuple[PatientIdentifier, ...]
    grantor: str
    scope: Scope
    recipients: Recipients
    purposes: frozenset[str]
    effective_from: int
    expires_at: int | None
    status: Literal["active", "revoked"] = "active"
    evidence_hash: str = ""
    recorded_at: int = 0
    shorter_period_requested: bool = False


def effective_end(directive: Directive, study: StudyFacts) -> int | None:
    """Return the instant from which `directive` no longer holds for `study`; None for never.

    Never earlier than twelve months after the Study Date, unless the patient asked for less.
    """
    if directive.expires_at is None or directive.shorter_period_requested:
        return directive.expires_at
    studied = _day(study.study_date)
    if studied is None:
        return directive.expires_at
    anniversary = _years_later(studied, MINIMUM_PERIOD_YEARS)
    days = anniversary.toordinal() + 1 - _EPOCH.toordinal()
    return max(directive.expires_at, days * _SECONDS_PER_DAY + _LATEST_ZONE_S)


def serves(permitted: frozenset[str], purpose: str | None) -> bool:
    """Return whether `purpose` or a broader one is permitted; None asks for any purpose at all."""
    if purpose is None:
        return bool(permitted)
    wanted: str | None = purpose
    while wanted is not None:
        if wanted in permitted:
            return True
        wanted = _BROADER.get(wanted)
    return False


def problems(directive: Directive) -> tuple[str, ...]:
    """Return what keeps `directive` from meaning anything, one sentence each; empty if nothing."""
    scope, recipients = directive.scope, directive.recipients
    limits = [limit for limit in (scope.study_date_from, scope.study_date_to) if limit]
    unknown = sorted(directive.purposes - set(PurposeOfUse))
    found = {
        "Name the patient by an identifier.": not directive.patient,
        "Say who gave the consent.": not directive.grantor.strip(),
        "List the studies it is about.": scope.kind == "listed" and not scope.study_instance_uids,
        "Give a modality, a period or a body part.": (
            scope.kind == "matching" and not scope.has_criteria
        ),
        "Write the period as two dates YYYYMMDD, the earlier first.": (
            any(_day(limit) is None for limit in limits) or limits != sorted(limits)
        ),
        "Name at least one partner that may receive.": not recipients.admits(None),
        "Name at least one purpose of use.": not directive.purposes,
        f"Use codes of HL7 PurposeOfUse; unknown: {', '.join(unknown)}.": bool(unknown),
        "Let it expire after it takes effect.": (
            directive.expires_at is not None and directive.expires_at <= directive.effective_from
        ),
    }
    return tuple(sentence for sentence, is_wrong in found.items() if is_wrong)


def sentence(directive: Directive) -> str:
    """Return what `directive` says in one sentence without patient attributes; dates are UTC."""
    what = {"all": "All studies", "listed": "The listed studies", "matching": "Matching studies"}
    recipients = directive.recipients
    count = len(recipients.named)
    named = "1 named partner" if count == 1 else f"{count} named partners"
    who = "all partners" if recipients.all_partners else named
    if recipients.excluded:
        who += f" but {len(recipients.excluded)}"
    purposes = " and ".join(_PURPOSE_WORDS.get(one, one) for one in sorted(directive.purposes))
    until = "" if directive.expires_at is None else f" until {_iso_day(directive.expires_at)}"
    status = " (revoked)" if directive.status == "revoked" else ""
    return (
        f"{what[directive.scope.kind]} may go to {who} for {purposes or 'nothing'} "
        f"from {_iso_day(directive.effective_from)}{until}{status}."
    )


def _day(text: str) -> date | None:
    """Return the day that a DA value is, or None if it is none or leaves no room for a year."""
    if _DA.fullmatch(text) is None:
        return None
    try:
        day = date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None
    return day if day.year < date.max.year - MINIMUM_PERIOD_YEARS else None


def _years_later(day: date, years: int) -> date:
    """Return the same day `years` later; 1 March for 29 February in a common year."""
    try:
        return day.replace(year=day.year + years)
    except ValueError:
        return date(day.year + years, 3, 1)


def _iso_day(instant: int) -> str:
    ordinal = _EPOCH.toordinal() + instant // _SECONDS_PER_DAY
    inside = min(max(ordinal, date.min.toordinal()), date.max.toordinal())
    return date.fromordinal(inside).isoformat()
