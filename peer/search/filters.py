"""Which studies of an answer are to be seen.  What partners are asked does not depend on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from peer.search.answer import Result


@dataclass(frozen=True, slots=True)
class Filters:
    """What a study must be to be shown; '' lets any pass.  Case does not matter.

    `modality`, `body_part`: one of the study's codes.  `date_from`, `date_to`: YYYYMMDD, both
    inclusive; a study without a date passes neither.  `facility`: a part of its name, or its
    identity.  `description`: words that it holds.  `accession_number`: the whole of it.
    """

    modality: str = ""
    body_part: str = ""
    date_from: str = ""
    date_to: str = ""
    facility: str = ""
    description: str = ""
    accession_number: str = ""

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(self))

    def admit(self, study: Result) -> bool:
        """Return whether a study is to be seen."""
        return (
            _among(self.modality, study.modalities)
            and _among(self.body_part, study.body_parts)
            and self._admit_date(study.study_date)
            and self._admit_facility(study)
            and all(word in _plain(study.description) for word in _plain(self.description).split())
            and _among(self.accession_number, (study.accession_number,))
        )

    def _admit_date(self, date: str) -> bool:
        if not self.date_from and not self.date_to:
            return True
        return bool(date) and self.date_from <= date <= (self.date_to or date)

    def _admit_facility(self, study: Result) -> bool:
        wanted = _plain(self.facility)
        return wanted in _plain(study.facility.name) or wanted == study.facility.peer_id.hex()


def _among(wanted: str, found: Iterable[str]) -> bool:
    return not wanted or _plain(wanted) in map(_plain, found)


def _plain(text: str) -> str:
    return text.strip().casefold()
