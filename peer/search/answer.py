"""A search's question and its answer, as the API shows it."""

from __future__ import annotations

from collections import Counter
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

    @property
    def narrows(self) -> bool:
        """Whether a birth date or an identifier narrows the question enough to be asked."""
        return refusal_reason(self.person) is None

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

    @property
    def is_sure(self) -> bool:
        """Whether the record is the patient's by more than a likeness."""
        return self.confirmed or self.linked or self.score.tier == "match"

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
class Likely:
    """A record that is likely the patient's: how well it fits, and nothing that stands in it.

    What it says is shown once someone here, or its facility, has said that it is the patient's.
    `studies`: how many there are of it.
    """

    facility: Facility
    local: bool
    ref: bytes
    score: Score
    studies: int

    @property
    def sentence(self) -> str:
        """What there is."""
        studies = "1 study" if self.studies == 1 else f"{self.studies} studies"
        return (
            f"A record at {self.facility.name} with {studies} is likely the same person's; its "
            "details are hidden until someone says so."
        )

    def to_json(self) -> dict[str, object]:
        """Return it as the API shows it."""
        return {
            "facility": self.facility.to_json(),
            "local": self.local,
            "ref": self.ref.hex(),
            "studies": self.studies,
            "match": {
                "tier": self.score.tier,
                "probability": round(self.score.probability, 4),
                "reasons": list(self.score.reasons()),
            },
            "sentence": self.sentence,
        }


def likely_of(doubtful: Sequence[Result]) -> tuple[Likely, ...]:
    """Return what may be shown of studies of doubtful records: the records, the likeliest first."""
    counts = Counter(each.ref for each in doubtful)
    records = {each.ref: each for each in sorted(doubtful, key=lambda one: -one.score.bits)}
    return tuple(
        Likely(each.facility, each.local, ref, each.score, counts[ref])
        for ref, each in records.items()
    )


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

    `doubtful`: studies of records that are only likely the patient's; see `Answer`. `uncovered`:
    why it was not searched; what was opened of it before may be listed all the same. `waiting`: how
    many are still being asked.
    """

    facility: Facility
    results: tuple[Result, ...]
    doubtful: tuple[Result, ...]
    hints: tuple[RecordHint, ...]
    uncovered: Uncovered | None
    waiting: int

    @classmethod
    def of(
        cls,
        facility: Facility,
        found: Sequence[Result],
        hints: tuple[RecordHint, ...] = (),
        uncovered: Uncovered | None = None,
        *,
        waiting: int,
    ) -> Heard:
        """Return what a facility has; of doubtful records nothing is shown."""
        sure = tuple(each for each in found if each.is_sure)
        doubtful = tuple(each for each in found if not each.is_sure)
        return cls(facility, sure, doubtful, hints, uncovered, waiting)

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
            "likely": [each.to_json() for each in likely_of(self.doubtful)],
            "hints": [each.to_json() for each in self.hints],
            "not_searched": None if self.uncovered is None else self.uncovered.to_json(),
            "waiting": self.waiting,
        }

    def _said(self) -> str:
        if self.uncovered is not None:
            return f"not searched ({_why(self.uncovered)})"
        count, likely = len(self.results), len(likely_of(self.doubtful))
        studies = f"{count or 'no'} stud{'y' if count == 1 else 'ies'} found"
        if not likely:
            return studies
        return f"{studies}, {likely} record{'' if likely == 1 else 's'} likely the same person's"


@dataclass(frozen=True, slots=True)
class Answer:
    """One merged list, the newest study first, and what it covers.

    `doubtful`: studies of records that are only likely the patient's. They are for the node alone;
    people and programs get `likely`, which tells nothing that stands in the records. `ref`: the
    patient here whom the question means, or its description; `links`: what people here have said
    about those who were found. `left_out`: how many more studies were found that are not to be
    seen.
    """

    search_id: bytes
    persons: tuple[Demographics, ...]
    results: tuple[Result, ...]
    coverage: Coverage
    hints: tuple[RecordHint, ...] = ()
    ref: bytes = b""
    links: tuple[SaidLink, ...] = ()
    left_out: int = 0
    doubtful: tuple[Result, ...] = ()

    @property
    def likely(self) -> tuple[Likely, ...]:
        """The records that are likely the patient's, without what stands in them."""
        return likely_of(self.doubtful)

    def only(self, admit: Callable[[Result], bool]) -> Answer:
        """Return the answer with the studies that `admit` lets pass.

        Doubtful records stay: whether one passes would tell what stands in it.
        """
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
            "likely": [each.to_json() for each in self.likely],
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
