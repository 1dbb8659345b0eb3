"""A search's question and its answer, as the API shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from peer.search.links import SaidLink
from protocol.errors import Refusal
from protocol.identifiers import EntryId, PatientIdentifier, PeerId
from protocol.matching.keys import Demographics, refusal_reason
from protocol.matching.score import Score


@dataclass(frozen=True, slots=True)
class Question:
    """Whom to look for.  birth_date: YYYYMMDD or ''."""

    name: str
    birth_date: str
    sex: str = ""
    identifiers: tuple[PatientIdentifier, ...] = ()

    @property
    def person(self) -> Demographics:
        """The question as a description to be matched."""
        names = (self.name,) if self.name.strip() else ()
        return Demographics(names, self.birth_date, self.sex, self.identifiers)

    def must_narrow(self) -> None:
        """Raise Refusal "too-little" if neither birth date nor identifier narrows the question."""
        if (reason := refusal_reason(self.person)) is not None:
            remedy = "Add the birth date, or an identifier with its issuer."
            raise Refusal("too-little", reason, remedy)


@dataclass(frozen=True, slots=True)
class Facility:
    """A facility as it is named to a person."""

    peer_id: PeerId
    name: str

    def to_json(self) -> dict[str, object]:
        """Return it as the API shows it."""
        return {"peer_id": self.peer_id.hex(), "name": self.name}


@dataclass(frozen=True, slots=True)
class Result:
    """One study.  `size`: bytes.  `person`: index into the answer's persons.

    `local`: it is this facility's own; `held_here`: its instances are here, whosever it is.
    `ref` names the patient's record (`protocol.person_links`).  `confirmed`: its origin was asked,
    and said that this is the patient; `linked`: someone here has.
    """

    facility: Facility
    local: bool
    held_here: bool
    study_instance_uid: str
    study_date: str
    study_time: str
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    description: str
    accession_number: str
    series: int
    instances: int
    size: int
    patient: Demographics
    score: Score
    ref: bytes
    person: int = 0
    confirmed: bool = False
    linked: bool = False

    def to_json(self) -> dict[str, object]:
        """Return it as the API shows it."""
        return {
            "facility": self.facility.to_json(),
            "local": self.local,
            "held_here": self.held_here,
            "study_instance_uid": self.study_instance_uid,
            "study_date": self.study_date,
            "study_time": self.study_time,
            "modalities": list(self.modalities),
            "body_parts": list(self.body_parts),
            "description": self.description,
            "accession_number": self.accession_number,
            "series": self.series,
            "instances": self.instances,
            "bytes": self.size,
            "person": self.person,
            "ref": self.ref.hex(),
            "patient": person_json(self.patient),
            "match": {
                "tier": self.score.tier,
                "probability": round(self.score.probability, 4),
                "reasons": list(self.score.reasons()),
                "confirmed": self.confirmed,
                "linked": self.linked,
            },
        }


@dataclass(frozen=True, slots=True)
class RecordHint:
    """A record at a partner that may belong to the patient; its details are hidden.

    `record` (16 B) names it to the facility, which can be asked about it.
    """

    facility: Facility
    record: EntryId

    def to_json(self) -> dict[str, object]:
        """Return it as the API shows it."""
        return {
            "facility": self.facility.to_json(),
            "record": self.record.hex(),
            "sentence": f"A record at {self.facility.name} may belong to this patient; its details "
            "are hidden.",
        }


@dataclass(frozen=True, slots=True)
class Uncovered:
    """A facility that was not searched.  `since`: Unix seconds, if known."""

    facility: Facility
    code: str
    reason: str
    since: int | None = None

    def to_json(self) -> dict[str, object]:
        """Return it as the API shows it."""
        return self.facility.to_json() | {
            "code": self.code,
            "reason": self.reason,
            "since": self.since,
        }


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which facilities a search covered: an empty list says nothing about the others."""

    searched: tuple[Facility, ...]
    not_searched: tuple[Uncovered, ...]

    @property
    def sentence(self) -> str:
        """The coverage line, with instants in UTC."""
        total = len(self.searched) + len(self.not_searched)
        line = f"Searched {len(self.searched)} of {total} facilities."
        if self.not_searched:
            missing = "; ".join(f"{one.facility.name} ({_why(one)})" for one in self.not_searched)
            line += f" Not searched: {missing}."
        return line

    def to_json(self) -> dict[str, object]:
        """Return it as the API shows it."""
        return {
            "searched": [each.to_json() for each in self.searched],
            "not_searched": [each.to_json() for each in self.not_searched],
            "sentence": self.sentence,
        }


@dataclass(frozen=True, slots=True)
class Heard:
    """What one facility has, while others are still being asked: the newest study first.

    `uncovered`: why it was not searched; what was opened of it before may be listed all the same.
    `waiting`: how many are still being asked.
    """

    facility: Facility
    results: tuple[Result, ...]
    hints: tuple[RecordHint, ...]
    uncovered: Uncovered | None
    waiting: int

    def only(self, admit: Callable[[Result], bool]) -> Heard:
        """Return it with the studies that `admit` lets pass."""
        return replace(self, results=tuple(each for each in self.results if admit(each)))

    def to_json(self) -> dict[str, object]:
        """Return it as the API shows it."""
        return {
            "facility": self.facility.to_json(),
            "searched": self.uncovered is None,
            "sentence": f"{self.facility.name}: {self._said()}.",
            "results": [each.to_json() for each in self.results],
            "hints": [each.to_json() for each in self.hints],
            "not_searched": None if self.uncovered is None else self.uncovered.to_json(),
            "waiting": self.waiting,
        }

    def _said(self) -> str:
        if self.uncovered is not None:
            return f"not searched ({_why(self.uncovered)})"
        count = len(self.results)
        return f"{count or 'no'} stud{'y' if count == 1 else 'ies'} found"


@dataclass(frozen=True, slots=True)
class Answer:
    """One merged list, the newest study first, and what it covers.

    `ref`: the patient here whom the question means, or its description; `links`: what people here
    have said about those who were found.  `left_out`: how many more studies were
    found that are not to be seen.
    """

    search_id: bytes
    persons: tuple[Demographics, ...]
    results: tuple[Result, ...]
    coverage: Coverage
    hints: tuple[RecordHint, ...] = ()
    ref: bytes = b""
    links: tuple[SaidLink, ...] = ()
    left_out: int = 0

    def only(self, admit: Callable[[Result], bool]) -> Answer:
        """Return the answer with the studies that `admit` lets pass."""
        seen = tuple(each for each in self.results if admit(each))
        return replace(self, results=seen, left_out=len(self.results) - len(seen))

    def to_json(self) -> dict[str, object]:
        """Return it as the API shows it."""
        return {
            "search_id": self.search_id.hex(),
            "ref": self.ref.hex(),
            "persons": [person_json(each) for each in self.persons],
            "results": [each.to_json() for each in self.results],
            "left_out": self.left_out,
            "hints": [each.to_json() for each in self.hints],
            "links": [each.to_json() for each in self.links],
            "coverage": self.coverage.to_json(),
        }


def person_json(person: Demographics) -> dict[str, object]:
    """Return a description as the API shows it."""
    return {
        "name": person.names[0] if person.names else "",
        "names": list(person.names),
        "birth_date": person.birth_date,
        "sex": person.sex,
        "identifiers": [
            {"issuer": each.issuer, "value": each.value} for each in person.identifiers
        ],
    }


def _why(uncovered: Uncovered) -> str:
    if uncovered.since is None:
        return uncovered.reason
    at = datetime.fromtimestamp(uncovered.since, UTC)
    return f"{uncovered.reason} since {at:%Y-%m-%d %H:%M} UTC"


def newest_first(results: Sequence[Result]) -> list[Result]:
    """Return the results by study date and time, the newest first."""
    return sorted(
        results, key=lambda one: (one.study_date, one.study_time, one.study_instance_uid)
    )[::-1]
