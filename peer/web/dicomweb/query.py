"""The parameters of a search (PS3.18 section 8.3.4, table 10.6.1-5)."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from multidict import MultiMapping

from peer.index.studies import InstanceRow, SeriesRow, StudyQuery
from peer.web.dicomweb.attributes import TAGS
from peer.web.dicomweb.resource import bad_request
from protocol.identifiers import is_uid

UIDS: Final = 1000
"""Most UIDs of one list."""

VALUE_CHARACTERS: Final = 1024
"""Longest value to match."""

_LITERAL: Final = (
    "The fuzzymatching parameter is not supported. Only literal matching has been performed."
)

_KEYWORDS: Final = {tag: keyword for keyword, tag in TAGS.items()}

_SERIES: Final[Mapping[str, Callable[[SeriesRow], object]]] = {
    "SeriesInstanceUID": lambda row: row.series_instance_uid,
    "Modality": lambda row: row.modality,
    "SeriesNumber": lambda row: row.series_number,
    "SeriesDescription": lambda row: row.description,
    "BodyPartExamined": lambda row: row.body_part,
    "ProtocolName": lambda row: row.protocol_name,
    "PerformedProcedureStepStartDate": lambda row: row.step_date,
}
_INSTANCE: Final[Mapping[str, Callable[[InstanceRow], object]]] = {
    "SOPInstanceUID": lambda row: row.sop_instance_uid,
    "SOPClassUID": lambda row: row.sop_class_uid,
    "InstanceNumber": lambda row: row.instance_number,
}
_UID_LISTS: Final = frozenset(
    {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"}
)
_DATES: Final = frozenset({"StudyDate", "PatientBirthDate", "PerformedProcedureStepStartDate"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A search: what is matched at each level, which page of the results, what was not heeded."""

    study: StudyQuery
    limit: int
    series: Mapping[str, str] = field(default_factory=dict)
    instance: Mapping[str, str] = field(default_factory=dict)
    offset: int = 0
    warnings: tuple[str, ...] = ()

    def matches_series(self, row: SeriesRow) -> bool:
        """Whether a series is asked for."""
        return all(_matches(name, self.series[name], _SERIES[name](row)) for name in self.series)

    def matches_instance(self, row: InstanceRow) -> bool:
        """Whether an instance is asked for."""
        return all(
            _matches(name, self.instance[name], _INSTANCE[name](row)) for name in self.instance
        )


def read_query(parameters: MultiMapping[str], level: str, most: int) -> Asked:
    """Return what is asked for at `level` ("studies", "series", "instances"), `most` of it.

    Raises RequestError.  An attribute that cannot be matched is not heeded, and a warning says so
    (section 8.3.4.2): the answer then holds more than was asked for, never less.
    """
    keys: dict[str, str] = {}
    warnings: list[str] = []
    for name in dict.fromkeys(parameters):
        value = parameters[name]
        if name in ("limit", "offset", "includefield", "accept", "federated"):
            continue
        if name == "fuzzymatching":
            if value.lower() == "true":
                warnings.append(_LITERAL)
            continue
        keyword = _KEYWORDS.get(name.upper(), name)
        if len(value) > VALUE_CHARACTERS * (16 if keyword in _UID_LISTS else 1):
            raise bad_request("A value to match is too long.")
        if keyword not in TAGS and not re.fullmatch(r"[A-Za-z0-9.]{1,64}", name):
            raise bad_request("A parameter is neither an attribute nor one that PS3.18 defines.")
        if value not in ("", "*"):
            keys[keyword] = value
    asked = Asked(
        _study_query(keys),
        min(_number(parameters, "limit", most), most),
        {name: keys.pop(name) for name in _SERIES if name in keys and level != "studies"},
        {name: keys.pop(name) for name in _INSTANCE if name in keys and level == "instances"},
        _number(parameters, "offset", 0),
    )
    if keys:
        warnings.append(f"Not supported for matching, and not heeded: {', '.join(sorted(keys))}.")
    return replace(asked, warnings=tuple(warnings))


def _study_query(keys: dict[str, str]) -> StudyQuery:
    """Return what is matched of study and patient; takes it out of `keys`."""
    dates = _range(keys.pop("StudyDate", ""))
    return StudyQuery(
        study_instance_uids=_uids(keys.pop("StudyInstanceUID", "")),
        patient_id=keys.pop("PatientID", ""),
        issuer=keys.pop("IssuerOfPatientID", None),
        name=keys.pop("PatientName", ""),
        birth_date=_date(keys.pop("PatientBirthDate", "")),
        date_from=dates[0],
        date_to=dates[1],
        modalities=_list(keys.pop("ModalitiesInStudy", "").upper()),
        accession_number=keys.pop("AccessionNumber", ""),
        description=keys.pop("StudyDescription", ""),
    )


def _number(parameters: MultiMapping[str], name: str, default: int) -> int:
    said = parameters.get(name)
    if said is None:
        return default
    if not (said.isascii() and said.isdigit() and len(said) < 10):  # noqa: PLR2004 - below 10^9
        raise bad_request(f"{name} is a number, from 0.")
    return int(said)


def _list(text: str) -> tuple[str, ...]:
    return tuple(each for each in re.split(r"[,\\]", text) if each)


def _uids(text: str) -> tuple[str, ...]:
    uids = _list(text)
    if len(uids) > UIDS or not all(is_uid(uid) for uid in uids):
        raise bad_request("A UID to match is none: digits and dots, at most 64, commas between.")
    return uids


def _date(text: str) -> str:
    if text:
        try:
            dt.datetime.strptime(text, "%Y%m%d").replace(tzinfo=dt.UTC)
        except ValueError:
            raise bad_request("A date is YYYYMMDD, a range of dates has a - between two.") from None
    return text


def _range(text: str) -> tuple[str, str]:
    """Return first and last day of a date or a range (PS3.4 section C.2.2.2.5)."""
    first, dash, last = text.partition("-")
    return _date(first), _date(last if dash else first)


def _matches(name: str, wanted: str, found: object) -> bool:
    text = "" if found is None else str(found)
    if name in _UID_LISTS:
        return text in _uids(wanted)
    if name in _DATES:
        first, last = _range(wanted)
        return bool(text) and first <= text and (not last or text <= last)
    return matches_text(wanted, text)


def matches_text(wanted: str, found: str) -> bool:
    """Whether a text matches one with wildcards (PS3.4 section C.2.2.2.4), whatever its case."""
    pattern = "".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in wanted)
    return re.fullmatch(pattern, found, re.IGNORECASE | re.DOTALL) is not None
