"""The one decision that follows from a patient's directives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from protocol.consent.directive import EVERYONE, Directive, StudyFacts, effective_end, serves

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks and what for: a partner's id in hex, EVERYONE, or None while publishing.

    `purpose` is None where it cannot be known: at publication and at a blind evaluation.
    `at` is the instant that is decided for.
    """

    recipient: str | None
    purpose: str | None
    at: int


Code = Literal[
    "permitted",
    "no-directive",
    "held-back",
    "revoked",
    "not-yet-effective",
    "expired",
    "scope",
    "recipient",
    "purpose",
]

_REASONS: Final[dict[Code, str]] = {
    "permitted": "A directive of the patient permits this.",
    "no-directive": "No directive of the patient is on record, and without one nothing is shared.",
    "held-back": "This study is held back as sensitive, whatever the patient's directives say.",
    "revoked": "The patient's directive was revoked.",
    "not-yet-effective": "The patient's directive is not in effect yet.",
    "expired": "The patient's directive has expired.",
    "scope": "The patient's directive does not cover this study.",
    "recipient": "The patient's directive does not include this recipient.",
    "purpose": "The patient's directive does not permit this purpose of use.",
}
_CLOSEST_TO_PERMIT: Final = tuple(_REASONS)
"""Of several denials the one that got furthest is told: a wrong purpose says more than an old,
revoked directive."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Permit or deny, with one sentence that holds no attribute of the patient.

    If permitted, `directive_id` names the directive that permits longest and `expires_at` is its
    end (None: no end); if denied, the directive that came closest, if there is one.
    """

    permitted: bool
    reason: str
    code: Code
    directive_id: str | None = None
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Audience:
    """For whom a study is published: all partners, or each of `partners` alone, or nobody."""

    all_partners: bool
    partners: frozenset[str]


def decide(directives: Sequence[Directive], study: StudyFacts, request: Request) -> Decision:
    """Return whether `request` for `study` is permitted.  Never raises.

    One directive that permits is enough; a revocation ends only the directive it belongs to.
    """
    if study.held_back:
        return _denied("held-back", None)
    permitting: list[Directive] = []
    denial: Decision = _denied("no-directive", None)
    for directive in sorted(directives, key=lambda one: one.directive_id):
        code = _verdict(directive, study, request)
        if code == "permitted":
            permitting.append(directive)
        elif _CLOSEST_TO_PERMIT.index(code) > _CLOSEST_TO_PERMIT.index(denial.code):
            denial = _denied(code, directive.directive_id)
    if not permitting:
        return denial
    ends = [(effective_end(one, study), one.directive_id) for one in permitting]
    end, directive_id = max(ends, key=lambda item: (item[0] is None, item[0] or 0))
    return Decision(
        permitted=True,
        reason=_REASONS["permitted"],
        code="permitted",
        directive_id=directive_id,
        expires_at=end,
    )


def audience(
    directives: Sequence[Directive], study: StudyFacts, partners: Collection[str], now: int
) -> Audience:
    """Return for whom to publish `study`; `partners` are the ids of the current ones, in hex.

    Nobody is named when all partners are the audience.
    """
    if decide(directives, study, Request(EVERYONE, None, now)).permitted:
        return Audience(all_partners=True, partners=frozenset())
    eligible = (
        partner
        for partner in partners
        if decide(directives, study, Request(partner, None, now)).permitted
    )
    return Audience(all_partners=False, partners=frozenset(eligible))


def earliest_change(
    directives: Sequence[Directive], now: int, studies: Iterable[StudyFacts] = ()
) -> int | None:
    """Return the next instant after `now` at which a decision about `studies` may change, or None.

    A study keeps a directive in effect for twelve months from its Study Date: without `studies`
    only the ends as written are known.
    """
    active = [one for one in directives if one.status == "active"]
    instants = {one.effective_from for one in active}
    instants |= {one.expires_at for one in active if one.expires_at is not None}
    for study in studies:
        ends = (effective_end(one, study) for one in active)
        instants |= {end for end in ends if end is not None}
    return min((instant for instant in instants if instant > now), default=None)


def _verdict(directive: Directive, study: StudyFacts, request: Request) -> Code:
    """Return "permitted" or the first thing that stands against it, in the order of _REASONS."""
    if directive.status != "active":
        return "revoked"
    if request.at < directive.effective_from:
        return "not-yet-effective"
    end = effective_end(directive, study)
    if end is not None and request.at >= end:
        return "expired"
    if not directive.scope.covers(study):
        return "scope"
    if not directive.recipients.admits(request.recipient):
        return "recipient"
    if not serves(directive.purposes, request.purpose):
        return "purpose"
    return "permitted"


def _denied(code: Code, directive_id: str | None) -> Decision:
    return Decision(permitted=False, reason=_REASONS[code], code=code, directive_id=directive_id)
