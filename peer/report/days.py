"""Days and instants of a study: when it was performed, and when twelve months after it are over."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

from peer.index.studies import StudyRow

_LAST_ZONE_S: Final = 12 * 3600
"""A day ends last at UTC-12."""

DAY_S: Final = 24 * 3600

_HOURS: Final = 24
_MINUTES: Final = 60

_DAY: Final = re.compile(r"[0-9]{8}")
_TIME: Final = re.compile(r"[0-9]{6}")
_ZONE: Final = re.compile(r"[+-][0-9]{4}")


def performed_before(study: StudyRow) -> int | None:
    """Return the instant before which a search precedes the study; None without a Study Date.

    The beginning of the study where its time and time zone are known, else the end of its day
    wherever on Earth that day ends last.
    """
    day = study_day(study)
    if day is None:
        return None
    begun = _time(study.study_time)
    if begun is None or not _ZONE.fullmatch(study.timezone):
        return _end_of(day)
    zone = study.timezone
    offset = dt.timedelta(hours=int(zone[1:3]), minutes=int(zone[3:]))
    local = dt.datetime.combine(day, begun, dt.UTC)
    return int((local + offset if zone[0] == "-" else local - offset).timestamp())


def twelve_months_end(study: StudyRow) -> int | None:
    """Return the instant at which twelve months after the Study Date are over everywhere."""
    day = study_day(study)
    if day is None:
        return None
    try:
        anniversary = day.replace(year=day.year + 1)
    except ValueError:
        anniversary = dt.date(day.year + 1, 3, 1)
    return _end_of(anniversary)


def study_day(study: StudyRow) -> dt.date | None:
    """Return the Study Date, or None if there is none that is a day."""
    text = study.study_date
    if not _DAY.fullmatch(text):
        return None
    try:
        return dt.date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None


def said_instant(at: int) -> str:
    """Return an instant (Unix seconds) for a reader."""
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def said_day(at: int) -> str:
    """Return the day of an instant for a reader, by UTC."""
    return dt.datetime.fromtimestamp(at, dt.UTC).date().isoformat()


def _time(text: str) -> dt.time | None:
    """Return the whole seconds of a TM value, or None if it does not go that far."""
    if not _TIME.match(text):
        return None
    hour, minute, second = int(text[:2]), int(text[2:4]), int(text[4:6])
    if hour >= _HOURS or minute >= _MINUTES:
        return None
    return dt.time(hour, minute, min(second, _MINUTES - 1))  # 60 is a leap second.


def _end_of(day: dt.date) -> int:
    midnight = dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), dt.UTC)
    return int(midnight.timestamp()) + _LAST_ZONE_S
