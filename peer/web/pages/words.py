"""How values are said to people: dates, names, sizes, purposes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, Final

from markupsafe import Markup

from protocol.consent import PurposeOfUse

PURPOSES: Final = {
    PurposeOfUse.TREAT: "Treatment",
    PurposeOfUse.ETREAT: "Emergency treatment",
    PurposeOfUse.PATRQT: "Request of the patient",
    PurposeOfUse.FAMRQT: "Request of the family",
    PurposeOfUse.HOPERAT: "Healthcare operations",
    PurposeOfUse.HPAYMT: "Payment",
    PurposeOfUse.HRESCH: "Research",
    PurposeOfUse.PUBHLTH: "Public health",
}
"""Purposes of use to choose from; breaking the glass is no choice in a list."""

_EMERGENCY: Final = {PurposeOfUse.BTG: "Emergency access"}

SEXES: Final = {"F": "female", "M": "male", "O": "other"}

ROLES: Final = {
    "clinician": "clinician",
    "operator": "operator",
    "privacy-officer": "privacy officer",
    "auditor": "auditor",
}

REFUSALS: Final = {
    "agreement": "outside the agreement",
    "busy": "overloaded",
    "exchange-incomplete": "journal not sent in full",
    "exchange-stale": "no exchange of journals lately",
    "expired": "consent has ended",
    "failed": "failure there",
    "held-back": "held back",
    "journal-forked": "two histories of one journal",
    "lease-over": "journal out of date",
    "no-directive": "no consent",
    "not-a-partner": "no agreement",
    "not-answered": "does not answer us",
    "not-published": "not published",
    "not-ready": "not prepared yet",
    "not-settled": "still being received",
    "purpose": "other purpose",
    "quota": "more than agreed in a day",
    "recipient": "consent names others",
    "revoked": "consent revoked",
    "role": "other role",
    "scope": "outside the consent",
}
"""What a refusal's code means, in few words; a code of a later version stands as it is."""

UNCHECKED: Final = {
    "faulty": "it answered wrongly",
    "lease-over": "its journal is out of date",
    "no-journal": "it has not sent its journal yet",
    "not-accepted": "it does not accept this facility",
    "offline": "it was offline",
    "refused": "it refused the search",
    "timed-out": "it did not answer in time",
    "too-old": "older than 12 months; its consent may have ended",
    "unannounced": "it answered with a key that it had not announced",
    "wrong-key": "it answered with another key than it announces",
    "too-recent": "younger than a week; it may not be ready yet",
}
"""Why a check of a partner does not count."""

_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB")
_STEP: Final = 1000


def day(text: str | dt.date | None) -> str:
    """Return a date, YYYYMMDD or a date, as "14 Mar 2026"; what is no date as it is."""
    if isinstance(text, str):
        try:
            text = dt.datetime.strptime(text, "%Y%m%d").replace(tzinfo=dt.UTC).date()
        except ValueError:
            return str(text) or "no date"
    return "no date" if text is None else f"{text.day} {text:%b %Y}"


def instant(seconds: int | None) -> str:
    """Return a point in time (Unix seconds) that the browser shows in its own time zone."""
    if seconds is None:
        return "never"
    at = dt.datetime.fromtimestamp(seconds, dt.UTC)
    written, said = f"{at:%Y-%m-%dT%H:%M:%SZ}", f"{at.day} {at:%b %Y, %H:%M} UTC"
    return Markup('<time datetime="{}">{}</time>').format(written, said)


def person(name: str) -> str:
    """Return a DICOM person name as "Family, Given Middle", other scripts in brackets."""
    alphabetic, *others = [_group(group) for group in name.split("=")]
    more = [group for group in others if group]
    if not alphabetic:
        return ", ".join(more) or "no name"
    return f"{alphabetic} ({', '.join(more)})" if more else alphabetic


def _group(group: str) -> str:
    family, given, middle, prefix, suffix = [*(p.strip() for p in group.split("^")), *[""] * 5][:5]
    first = " ".join(part for part in (prefix, given, middle) if part)
    last = " ".join(part for part in (family, suffix) if part)
    return ", ".join(part for part in (last, first) if part)


def size(count: int) -> str:
    """Return a number of bytes as "12.4 MB"."""
    value = float(count)
    for unit in _UNITS:
        if value < _STEP or unit == _UNITS[-1]:
            break
        value /= _STEP
    return f"{value:.0f} {unit}" if unit == _UNITS[0] else f"{value:.3g} {unit}"


def several(count: int, one: str, many: str = "") -> str:
    """Return "1 image" or "3 images"."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def reasons(said: tuple[str, ...]) -> list[str]:
    """Return the reasons of a match in few lines: fields with the same verdict stand together."""
    by_verdict: dict[str, list[str]] = {}
    for each in said:
        field, _, verdict = each.partition(": ")
        by_verdict.setdefault(verdict, []).append(field)
    return [
        f"{', '.join([fields[0], *(each.lower() for each in fields[1:])])}: {verdict}"
        for verdict, fields in by_verdict.items()
    ]


def initial(peer_id: bytes | str) -> str:
    """Return the first digits of an identity, to tell two of the same name apart."""
    return (peer_id.hex() if isinstance(peer_id, bytes) else peer_id)[:12]


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "day": day,
    "instant": instant,
    "person": person,
    "size": size,
    "several": several,
    "initial": initial,
    "reasons": reasons,
    "purpose": lambda code: (PURPOSES | _EMERGENCY).get(code, code),
    "sex": lambda code: SEXES.get(code, ""),
    "refusal": lambda code: REFUSALS.get(code, code),
    "unchecked": lambda code: UNCHECKED.get(code) or REFUSALS.get(code, code),
    "role": lambda name: ROLES.get(name, name),
}
