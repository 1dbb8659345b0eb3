"""One sentence with its code, what it rests on, and what it lacks."""

from __future__ import annotations

from dataclasses import dataclass

from peer.index.final_reports import FinalReport
from peer.index.grants import GrantRow
from peer.index.patients import PatientRow
from peer.index.report import PublishedTo, SearchMade
from peer.index.studies import StudyRow
from protocol.consent import Directive


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the report; without anything lacking it is met."""

    met: bool
    code: str
    sentence: str
    evidence: tuple[str, ...]
    lacking: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return it as the API shows it; `evidence` ends with what is lacking."""
        return {
            "met": self.met,
            "code": self.code,
            "sentence": self.sentence,
            "evidence": [*self.evidence, *(f"Lacking: {each}" for each in self.lacking)],
            "lacking": list(self.lacking),
        }


@dataclass(frozen=True, slots=True)
class OnRecord:
    """What the index says of a study at one moment."""

    study: StudyRow
    patient: PatientRow | None
    packs: int
    directives: tuple[Directive, ...]
    publications: tuple[PublishedTo, ...]
    grants: tuple[GrantRow, ...]
    searches: tuple[SearchMade, ...]
    final: FinalReport | None = None
