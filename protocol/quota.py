"""How much of what an agreement allows in a day is used, for both of its sides.

A day is one in UTC by the clock of whoever decides, so that both know when the next one begins.
The origin decides; the asker goes by its own record and does not ask for what is used up.
Specification: docs/protocol/reciprocity.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final

from protocol.errors import Refusal
from protocol.limits import CLOCK_SKEW_S

if TYPE_CHECKING:
    from protocol.agreement import Terms

QUOTA: Final = "quota"
"""The code of a refusal for which nothing but the hour is to blame."""

DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Use:
    """What one side got of the other in one day: searches answered, studies granted, their bytes.

    A study counts once in a day, however often it is granted.
    """

    searches: int = 0
    studies: int = 0
    bytes: int = 0


def day_of(now: int) -> int:
    """Return the day (UTC, days since 1970) of an instant (Unix seconds)."""
    return now // DAY_S


def opens_at(now: int) -> int:
    """Return the instant at which the next day begins."""
    return (day_of(now) + 1) * DAY_S


def closed_until(heard_at: int) -> int:
    """Return until when an asker that was refused at an instant of its own clock asks no more.

    Until its next day.  Right after the beginning of one the origin's may be the day before.
    """
    begun_at = day_of(heard_at) * DAY_S
    if heard_at - begun_at < CLOCK_SKEW_S:
        return begun_at + CLOCK_SKEW_S
    return opens_at(heard_at)


def search_objection(terms: Terms, use: Use, now: int) -> Refusal | None:
    """Return why one search more is not answered today, or None."""
    most = terms.daily_searches
    if most is None or use.searches < most:
        return None
    return _used_up(f"{most} {'search' if most == 1 else 'searches'}", opens_at(now))


def study_objection(terms: Terms, use: Use, now: int) -> Refusal | None:
    """Return why a study that was not granted today is not granted, or None.

    The study with which the bytes are used up is still given whole: it could never be had
    otherwise if it is larger than what a day allows.
    """
    most = terms.daily_studies
    if most is not None and use.studies >= most:
        return _used_up(f"{most} {'study' if most == 1 else 'studies'}", opens_at(now))
    size = terms.daily_bytes
    if size is not None and use.bytes >= size:
        return _used_up(f"images of {size} bytes", opens_at(now))
    return None


def refused_until(until: int) -> Refusal:
    """Return what an asker tells its people until it asks again an origin that refused."""
    return Refusal(
        QUOTA,
        f"What the peering agreement allows in a day is used up until {_instant(until)}, as the "
        "facility says.",
        _REMEDY,
    )


def _used_up(what: str, until: int) -> Refusal:
    return Refusal(
        QUOTA,
        f"The peering agreement allows {what} a day, used up until {_instant(until)}.",
        _REMEDY,
    )


def _instant(at: int) -> str:
    minutes = at % DAY_S // 60
    day = date.fromordinal(_FIRST_DAY + day_of(at))
    return f"{day:%Y-%m-%d} {minutes // 60:02}:{minutes % 60:02} UTC"


_FIRST_DAY: Final = date(1970, 1, 1).toordinal()


_REMEDY: Final = (
    "Ask again then, or with emergency access if the patient cannot wait. For more a day the two "
    "facilities must make a new agreement."
)
