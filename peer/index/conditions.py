"""What to look for among studies, and the conditions of SQL that it makes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from peer.index.patients import folded

_WILDCARD: Final = re.compile(r"[*?]")

_HIGHEST: Final = "\U0010ffff"
"""Sorts behind every character, so that it ends the range of a prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyQuery:
    """What to look for; an empty field matches everything.

    Texts but issuers may hold the wildcards * and ? (PS3.4 section C.2.2.2.4).  Dates are YYYYMMDD,
    times HHMMSS or their beginning; both ends of a range are included.
    """

    study_instance_uids: Sequence[str] = ()
    patient: int | None = None
    patient_id: str = ""
    issuer: str | None = None
    name: str = ""
    birth_date: str = ""
    birth_from: str = ""
    birth_to: str = ""
    sex: str = ""
    date_from: str = ""
    date_to: str = ""
    time_from: str = ""
    time_to: str = ""
    modalities: Sequence[str] = ()
    accession_number: str = ""
    accession_issuer: str = ""
    study_id: str = ""
    description: str = ""
    referring_physician: str = ""
    origin: bytes | None = None
    limit: int | None = None
    offset: int = 0


class Conditions:
    """The conditions of a WHERE clause: clauses are constants of this module, values are bound."""

    def __init__(self) -> None:
        self.clauses: list[str] = []
        self.values: list[object] = []

    def add(self, clause: str, *values: object) -> None:
        """Demand something more."""
        self.clauses.append(clause)
        self.values.extend(values)

    def where(self) -> str:
        """Return the clause, or nothing."""
        return " WHERE " + " AND ".join(self.clauses) if self.clauses else ""

    def among(self, column: str, values: Sequence[str]) -> None:
        """Compare with several values."""
        self.add(f"{column} IN (SELECT value FROM json_each(?))", json.dumps(list(values)))  # noqa: S608 - a column

    def match_any(self, column: str, patterns: Sequence[str]) -> None:
        """Compare with several values, or with patterns if one of them is."""
        if not any(_WILDCARD.search(each) for each in patterns):
            self.among(column, patterns)
            return
        globs = [each.replace("[", "[[]") for each in patterns]
        self.add(f"({' OR '.join(f'{column} GLOB ?' for _ in globs)})", *globs)

    def match(self, column: str, pattern: str) -> None:
        """Compare with a pattern in a way that an index on what is not '' serves."""
        prefix = _WILDCARD.split(pattern, maxsplit=1)[0]
        if prefix == pattern:
            self.add(f"{column} = ? AND {column} <> ''", pattern)
            return
        if prefix:
            self.add(f"{column} >= ? AND {column} < ?", prefix, prefix + _HIGHEST)
        self.add(f"{column} GLOB ? AND {column} <> ''", pattern.replace("[", "[[]"))


def conditions_of(query: StudyQuery) -> Conditions:
    """Return the conditions on a study s and its patient p."""
    found = Conditions()
    if query.study_instance_uids:
        found.among("s.study_instance_uid", query.study_instance_uids)
    _add_times(found, query)
    if query.modalities:
        series = Conditions()
        series.match_any("modality", query.modalities)
        found.add(
            f"s.study_instance_uid IN (SELECT study_instance_uid FROM series{series.where()})",  # noqa: S608 - clauses
            *series.values,
        )
    for column, pattern in (
        ("s.accession_number", query.accession_number),
        ("s.study_id", query.study_id),
        ("lower(s.description)", query.description.lower()),
        ("lower(s.referring_physician)", query.referring_physician.lower()),
    ):
        if pattern:
            found.match(column, pattern)
    if query.accession_issuer:
        found.add("s.accession_issuer = ?", query.accession_issuer)
    if query.origin is not None:
        found.add("s.origin = ?", query.origin)
    _add_patient(found, query)
    return found


def _add_times(found: Conditions, query: StudyQuery) -> None:
    if query.date_from:
        found.add("s.study_date >= ?", query.date_from)
    if query.date_to:
        found.add("s.study_date <= ? AND s.study_date <> ''", query.date_to)
    if query.time_from:
        found.add("s.study_time >= ?", query.time_from)
    if query.time_to:
        # "0930" includes all of that minute.
        found.add(
            "substr(s.study_time, 1, length(?)) <= ? AND s.study_time <> ''",
            query.time_to,
            query.time_to,
        )


def _add_patient(found: Conditions, query: StudyQuery) -> None:
    if query.patient is not None:
        found.add("s.patient = ?", query.patient)
    if query.patient_id:
        found.match("p.patient_id", query.patient_id)
    if query.issuer is not None:
        found.add("p.issuer = ?", query.issuer)
    if query.birth_date:
        found.add("p.birth_date = ?", query.birth_date)
    if query.birth_from:
        found.add("p.birth_date >= ?", query.birth_from)
    if query.birth_to:
        found.add("p.birth_date <= ? AND p.birth_date <> ''", query.birth_to)
    if query.sex:
        found.match("p.sex", query.sex)
    for group in folded(query.name).split("="):
        wanted = group.rstrip("^ ")
        if not wanted.strip("*"):
            continue
        names = Conditions()
        names.match("name", wanted)
        found.add(
            f"s.patient IN (SELECT patient FROM patient_names{names.where()})",  # noqa: S608 - clauses
            *names.values,
        )
