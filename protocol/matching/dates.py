"""Birth dates (PS3.5 section 6.2, VR DA): what is usable, what survives a swap, what agrees."""

from __future__ import annotations

import re
from datetime import date
from typing import Final, Literal

from rapidfuzz.distance import OSA

DateVerdict = Literal[
    "missing",
    "same",
    "same, but 1 January",
    "only the year is known",
    "day/month swapped",
    "one digit differs",
    "two of three parts agree",
    "differs",
]

EARLIEST_YEAR: Final = 1870
"""Nobody born earlier lived to see digital imaging; such dates are placeholders."""

_PLACEHOLDERS: Final = frozenset({"19000101", "99991231", "99990101"})
_DA: Final = re.compile(r"(\d{4})[.\-/]?(\d{2})[.\-/]?(\d{2})")
_PARTS_THAT_AGREE: Final = 2


def usable(text: str) -> str:
    """Return `text` as YYYYMMDD, or '' if it is empty, a placeholder or no date.

    Punctuation ("1980.05.17" of ACR-NEMA, "1980-05-17") is accepted.  A date that only exists
    with day and month swapped is kept as written: it still meets its correct form.
    """
    match = _DA.fullmatch(text.strip())
    if match is None:
        return ""
    year, first, second = match.groups()
    digits: str = year + first + second
    if int(year) < EARLIEST_YEAR or digits in _PLACEHOLDERS:
        return ""
    exists = _exists(year, first, second) or _exists(year, second, first)
    return digits if exists else ""


def is_low_trust(usable_date: str) -> bool:
    """Return whether this is 1 January, which many registers write when only the year is known."""
    return usable_date.endswith("0101")


def match_form(usable_date: str) -> str:
    """Return the date for a match key: day and month sorted, so that swapped ones meet."""
    return usable_date[:4] + "".join(sorted((usable_date[4:6], usable_date[6:])))


def compare(one: str, other: str) -> DateVerdict:
    """Compare two usable dates; '' is missing.  The order of the two does not matter."""
    if not one or not other:
        return "missing"
    if one == other:
        return "same, but 1 January" if is_low_trust(one) else "same"
    if one[:4] == other[:4] and (is_low_trust(one) or is_low_trust(other)):
        return "only the year is known"
    if match_form(one) == match_form(other):
        return "day/month swapped"
    if OSA.distance(one, other) == 1:
        return "one digit differs"
    if sum(a == b for a, b in zip(_parts(one), _parts(other), strict=True)) == _PARTS_THAT_AGREE:
        return "two of three parts agree"
    return "differs"


def _parts(digits: str) -> tuple[str, str, str]:
    return digits[:4], digits[4:6], digits[6:]


def _exists(year: str, month: str, day: str) -> bool:
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return False
    return True
