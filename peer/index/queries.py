"""One query over patients, studies, series and instances: for QIDO-RS and for C-FIND.

Matching is that of PS3.4 section C.2.2.2: single values, lists of UIDs, wildcards, ranges,
universal matching, and what sequences hold.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from peer.index import studies
from peer.index.conditions import StudyQuery
from peer.index.migrate import Tx
from peer.index.studies import InstanceRow, SeriesRow
from protocol.errors import Refusal
from protocol.identifiers import is_uid

UIDS: Final = 1000
"""Most UIDs of one list."""

VALUE_CHARACTERS: Final = 1024
"""Longest value to match."""

LEVELS: Final = ("patients", "studies", "series", "instances")
"""What a query is about, from the top."""

_SERIES: Final[Mapping[str, Callable[[SeriesRow], object]]] = {
    "SeriesInstanceUID": lambda row: row.series_instance_uid,
    "Modality": lambda row: row.modality,
    "SeriesNumber": lambda row: row.series_number,
    "SeriesDescription": lambda row: row.description,
    "BodyPartExamined": lambda row: row.body_part,
    "ProtocolName": lambda row: row.protocol_name,
    "PerformedProcedureStepStartDate": lambda row: row.step_date,
    "PerformedProcedureStepStartTime": lambda row: row.step_time,
}
_INSTANCE: Final[Mapping[str, Callable[[InstanceRow], object]]] = {
    "SOPInstanceUID": lambda row: row.sop_instance_uid,
    "SOPClassUID": lambda row: row.sop_class_uid,
    "InstanceNumber": lambda row: row.instance_number,
}
UID_LISTS: Final = frozenset(
    {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"}
)
"""Keys that take a list."""
_DATES: Final = frozenset({"PerformedProcedureStepStartDate"})
_TIMES: Final = frozenset({"PerformedProcedureStepStartTime"})
_TIME: Final = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d|60)?(\.\d{1,6})?)?")
_PATIENT_ISSUERS: Final = (
    "IssuerOfPatientIDQualifiersSequence.UniversalEntityID",
    "IssuerOfPatientID",
)
_ACCESSION_ISSUERS: Final = (
    "IssuerOfAccessionNumberSequence.UniversalEntityID",
    "IssuerOfAccessionNumberSequence.LocalNamespaceEntityID",
)


@dataclass(frozen=True, slots=True)
class Query:
    """What is matched at each level; what is not named matches all."""

    study: StudyQuery
    series: Mapping[str, str] = field(default_factory=dict)
    instance: Mapping[str, str] = field(default_factory=dict)

    def matches_series(self, row: SeriesRow) -> bool:
        """Whether a series is asked for."""
        return all(_matches(name, self.series[name], _SERIES[name](row)) for name in self.series)

    def matches_instance(self, row: InstanceRow) -> bool:
        """Whether an instance is asked for."""
        return all(
            _matches(name, self.instance[name], _INSTANCE[name](row)) for name in self.instance
        )


def query_of(wanted: Mapping[str, str], level: str) -> tuple[Query, tuple[str, ...]]:
    """Return the query at a level for keys and what they must match, and the keys not heeded.

    Several UIDs stand between backslashes or commas.  A key within a sequence is named
    "Sequence.Key".  A key that cannot be matched makes the answer larger, never smaller.  Raises
    Refusal "bad-query".
    """
    keys: dict[str, str] = {}
    for name, value in wanted.items():
        if len(value) > VALUE_CHARACTERS * (16 if name in UID_LISTS else 1):
            raise bad_query("A value to match is too long.")
        if value not in ("", "*"):
            keys[name] = value
    query = Query(
        _study_query(keys),
        {name: keys.pop(name) for name in _SERIES if name in keys and level in LEVELS[2:]},
        {name: keys.pop(name) for name in _INSTANCE if name in keys and level in LEVELS[3:]},
    )
    for name, value in (query.series | query.instance).items():  # type: ignore[operator]
        _matches(name, value, "")  # Refuses what is no value of the key, whatever is held.
    return query, tuple(sorted(keys))


def bad_query(reason: str) -> Refusal:
    """Return the refusal of a query that is not as the standard defines it."""
    return Refusal("bad-query", reason)


def _study_query(keys: dict[str, str]) -> StudyQuery:
    """Return what is matched of study and patient; takes it out of `keys`."""
    dates = _range(keys.pop("StudyDate", ""), _date)
    times = _range(keys.pop("StudyTime", ""), _time)
    born = _range(keys.pop("PatientBirthDate", ""), _date)
    one_day = born[0] == born[1]
    return StudyQuery(
        study_instance_uids=_uids(keys.pop("StudyInstanceUID", "")),
        patient_id=keys.pop("PatientID", ""),
        issuer=_first(keys, _PATIENT_ISSUERS),
        name=keys.pop("PatientName", ""),
        birth_date=born[0] if one_day else "",
        birth_from="" if one_day else born[0],
        birth_to="" if one_day else born[1],
        sex=keys.pop("PatientSex", "").upper(),
        date_from=dates[0],
        date_to=dates[1],
        time_from=times[0],
        time_to=times[1],
        modalities=_list(keys.pop("ModalitiesInStudy", "").upper()),
        accession_number=keys.pop("AccessionNumber", ""),
        accession_issuer=_first(keys, _ACCESSION_ISSUERS) or "",
        study_id=keys.pop("StudyID", ""),
        description=keys.pop("StudyDescription", ""),
        referring_physician=keys.pop("ReferringPhysicianName", ""),
    )


def _first(keys: dict[str, str], names: tuple[str, ...]) -> str | None:
    """Return the first of several keys for the same thing; takes all out of `keys`."""
    found = [value for name in names if (value := keys.pop(name, None)) is not None]
    return found[0] if found else None


# -- within the index -----------------------------------------------------------------------
def narrowed(tx: Tx, query: Query) -> Query:
    """Name the studies of a query that names only series or instances in them.

    Else every study would be looked through.
    """
    if query.study.study_instance_uids:
        return query
    for level, name in ((query.instance, "SOPInstanceUID"), (query.series, "SeriesInstanceUID")):
        if name in level:
            uids = studies.containing(tx, name, _uids(level[name]))
            # No UID is "": a study that nobody has.
            return replace(query, study=replace(query.study, study_instance_uids=uids or ("",)))
    return query


def series_of(tx: Tx, query: Query, study_instance_uid: str) -> Iterator[SeriesRow]:
    """Yield the series of a study that are asked for, by Series Number."""
    for series in studies.list_series(tx, study_instance_uid):
        if query.matches_series(series):
            yield series


def instances_of(tx: Tx, query: Query, series: SeriesRow) -> Iterator[InstanceRow]:
    """Yield the instances of a series that are asked for, by Instance Number."""
    for instance in studies.list_instances(
        tx, series.study_instance_uid, series.series_instance_uid
    ):
        if query.matches_instance(instance):
            yield instance


# -- values ---------------------------------------------------------------------------------
def _list(text: str) -> tuple[str, ...]:
    return tuple(each for each in re.split(r"[,\\]", text) if each)


def _uids(text: str) -> tuple[str, ...]:
    uids = _list(text)
    if (text and not uids) or len(uids) > UIDS or not all(is_uid(uid) for uid in uids):
        raise bad_query("A UID to match is none: digits and dots, at most 64 characters.")
    return uids


def _date(text: str) -> str:
    if text:
        try:
            dt.datetime.strptime(text, "%Y%m%d").replace(tzinfo=dt.UTC)
        except ValueError:
            raise bad_query("A date is YYYYMMDD, a range of dates has a - between two.") from None
    return text


def _time(text: str) -> str:
    """Return a time of day without colons, as precise as it was said."""
    text = text.replace(":", "")
    if text and not _TIME.fullmatch(text):
        raise bad_query("A time is HHMMSS, a range of times has a - between two.")
    return text


def _range(text: str, read: Callable[[str], str]) -> tuple[str, str]:
    """Return first and last of a value or a range (PS3.4 section C.2.2.2.5)."""
    first, dash, last = (each.strip() for each in text.partition("-"))
    return read(first), read(last if dash else first)


def _matches(name: str, wanted: str, found: object) -> bool:
    text = "" if found is None else str(found)
    if name in UID_LISTS:
        return text in _uids(wanted)
    if name in _DATES or name in _TIMES:
        first, last = _range(wanted, _date if name in _DATES else _time)
        return bool(text) and first <= text and (not last or text[: len(last)] <= last)
    if name == "Modality":
        return any(matches_text(each, text) for each in _list(wanted))
    return matches_text(wanted, text)


def matches_text(wanted: str, found: str) -> bool:
    """Whether a text matches one with wildcards (PS3.4 section C.2.2.2.4), whatever its case."""
    first, *others = (
        "".join("." if each == "?" else re.escape(each) for each in part)
        for part in wanted.split("*")
    )
    if others:
        # What stands between two wildcards is taken where it first fits, and never looked for
        # again: else a few more wildcards would take years.
        *between, last = others
        first += "".join(f"(?>.*?{part})" for part in between if part) + ".*" + last
    return re.fullmatch(first, found, re.IGNORECASE | re.DOTALL) is not None
