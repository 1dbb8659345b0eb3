"""C-FIND: the study index asked over the DICOM network (PS3.4 section C.4.1).

Both information models at every level, relational too.  What matches is listed first, then read
and sent page by page: an answer takes the memory of a list of UIDs and of one page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Final, TypeAlias, TypeVar

from pydicom.dataset import Dataset
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
)

from peer.actors import Actor
from peer.audit import AuditEvent
from peer.dimse.archive import Archive
from peer.dimse.elsewhere import Elsewhere
from peer.dimse.identifiers import Answers, character_sets, keys_of, read_identifier
from peer.dimse.requests import Stopped
from peer.dimse.statuses import (
    CANCELLED,
    OUT_OF_RESOURCES,
    PENDING,
    PENDING_UNHEEDED,
    SUCCESS,
    answer,
)
from peer.index import Tx, patients, studies
from peer.index.attributes import (
    ONLINE,
    Described,
    describe_counts,
    describe_instance,
    describe_patient,
    describe_series,
    describe_study,
)
from peer.index.conditions import StudyQuery
from peer.index.queries import Query, bad_query, instances_of, narrowed, query_of, series_of
from peer.index.studies import InstanceRow, SeriesRow
from peer.search import Answer, Result
from peer.search.querying import describe_found, is_asked_for, question_of
from protocol.identifiers import PeerId
from protocol.matching.keys import refusal_reason

Key = TypeVar("Key")
Response: TypeAlias = tuple[int | Dataset, Dataset | None]

PAGE: Final = 100
"""Patients or studies read in one unit of work: other reads wait some ten milliseconds at most."""

MODELS: Final = (
    str(PatientRootQueryRetrieveInformationModelFind),
    str(StudyRootQueryRetrieveInformationModelFind),
)

LEVELS: Final = {
    "PATIENT": "patients",
    "STUDY": "studies",
    "SERIES": "series",
    "IMAGE": "instances",
}
"""Query/Retrieve Level, and what it is about."""

UNIQUE: Final = {
    "patients": ("PatientID",),
    "studies": ("StudyInstanceUID",),
    "series": ("StudyInstanceUID", "SeriesInstanceUID"),
    "instances": ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
}
"""Keys that name a match, and are told whether asked for or not."""

_COUNTS: Final = (
    "NumberOfPatientRelatedStudies",
    "NumberOfPatientRelatedSeries",
    "NumberOfPatientRelatedInstances",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A C-FIND request that can be answered."""

    level: str
    """As `LEVELS` names it."""
    keys: dict[str, str]
    query: Query
    unheeded: tuple[str, ...]
    """Keys that something was to match, and that are not matched here."""
    answers: Answers
    returned: tuple[str, ...]
    """Keys that a response holds if they are known here."""


def level_of(identifier: Dataset, sop_class_uid: str, study_root: str) -> str:
    """Return what a request is about; raise Refusal if its model has no such level."""
    said = str(identifier.get("QueryRetrieveLevel") or "").strip()
    if said not in LEVELS or (said == "PATIENT" and sop_class_uid == study_root):
        raise bad_query("Query/Retrieve Level is missing, or the model has no such level.")
    return LEVELS[said]


def read_request(data: bytes, sop_class_uid: str, transfer_syntax_uid: str, us: str) -> Asked:
    """Return what a request asks for; `us` is our AE title.  Raises Refusal."""
    identifier = read_identifier(data, transfer_syntax_uid)
    level = level_of(identifier, sop_class_uid, MODELS[1])
    keys = keys_of(identifier)
    query, unheeded = query_of(keys, level)
    always = {
        "QueryRetrieveLevel": ("CS", str(identifier.QueryRetrieveLevel).strip()),
        "RetrieveAETitle": ("AE", us),
        "InstanceAvailability": ("CS", ONLINE),
    }
    holding = {key.partition(".")[0] for key in keys if "." in key}
    returned = tuple(key for key in keys if "." not in key and key not in holding | always.keys())
    answers = Answers(dict.fromkeys(returned, ""), character_sets(identifier), always)
    return Asked(level, keys, query, unheeded, answers, returned)


class Finding:
    """Answers queries, a page at a time."""

    def __init__(self, archive: Archive, elsewhere: Elsewhere, most: int) -> None:
        self._archive = archive
        self._elsewhere = elsewhere
        self._most = most

    def respond(
        self, asked: Asked, actor: Actor, is_cancelled: Callable[[], bool]
    ) -> Iterator[Response]:
        """Yield a response for each match, and at last what is to be said of all, if anything."""

        def look() -> None:
            if is_cancelled():
                raise Stopped

        found = 0
        try:
            pages, said = self._matches(asked, actor, look)
            for page in pages:
                look()  # Also where nothing matches, which nobody would be told of.
                for described in page:
                    look()
                    if found == self._most:
                        comment = f"More than {found} match. Narrow it down."
                        yield answer(OUT_OF_RESOURCES, comment), None
                        return
                    found += 1
                    complete = not asked.unheeded and all(
                        key in described for key in asked.returned
                    )
                    identifier = asked.answers.identifier(described, UNIQUE[asked.level])
                    yield (PENDING if complete else PENDING_UNHEEDED), identifier
        except Stopped:
            yield CANCELLED, None
            return
        if said:
            yield answer(SUCCESS, said), None

    def _matches(
        self, asked: Asked, actor: Actor, look: Callable[[], None]
    ) -> tuple[Iterator[Sequence[Described]], str]:
        """Return the matches in pages, and what else there is to say."""
        if asked.level == "patients":
            return self._here(asked, actor, self._patients(asked), look), ""
        here = self._here(asked, actor, self._studies(asked), look)
        if not actor.federated or asked.level != "studies":
            return here, ""
        study = asked.query.study
        question = question_of(study, actor)
        if (reason := refusal_reason(question.person)) is not None:
            return here, f"Only here: {reason}"
        found = self._elsewhere.search(question, actor, look)
        said = found.coverage.sentence if found.coverage.not_searched else ""
        return chain(here, self._beside(study, found)), said

    def _beside(self, study: StudyQuery, found: Answer) -> Iterator[Sequence[Described]]:
        """Yield what a search of every facility has found beside what the query matches here."""
        wanted = _limited(study, self._most + 1)
        told = set(self._archive.read(lambda tx: studies.matching(tx, wanted)))
        listed = [
            each
            for each in found.results
            if each.study_instance_uid not in told and is_asked_for(study, each)
        ]
        reached = frozenset(each.peer_id for each in found.coverage.searched)
        for page in _pages(listed):
            yield self._archive.read(partial(_read_found, page=page, reached=reached))

    def _here(
        self,
        asked: Asked,
        actor: Actor,
        pages: Iterator[Sequence[Described]],
        look: Callable[[], None],
    ) -> Iterator[Sequence[Described]]:
        """Yield pages of what is held here; who looked is on record before the first one leaves."""
        first = next(pages, None)
        look()
        self._record(asked, actor)
        if first is not None:
            yield first
        yield from pages

    def _record(self, asked: Asked, actor: Actor) -> None:
        uids = asked.query.study.study_instance_uids
        self._archive.record(
            AuditEvent(
                "search",
                "success",
                actor,
                study_instance_uid=uids[0] if len(uids) == 1 else "",
                detail={"source": "c-find", "level": asked.level},
            )
        )

    def _patients(self, asked: Asked) -> Iterator[Sequence[Described]]:
        wanted = _limited(asked.query.study, self._most + 1)
        numbers = self._archive.read(lambda tx: studies.patients_matching(tx, wanted))
        counting = any(key in asked.keys for key in _COUNTS)
        for page in _pages(numbers):
            yield self._archive.read(partial(_read_patients, page=page, counting=counting))

    def _studies(self, asked: Asked) -> Iterator[Sequence[Described]]:
        def listed(tx: Tx) -> list[str]:
            return studies.matching(tx, _limited(narrowed(tx, asked.query).study, self._most + 1))

        uids = self._archive.read(listed)
        if asked.level == "studies":
            for page in _pages(uids):
                yield self._archive.read(partial(_read_studies, page=page))
            return
        for uid in uids:
            yield from self._within(asked, uid)

    def _within(self, asked: Asked, uid: str) -> Iterator[Sequence[Described]]:
        """Yield a study's series, or the instances of one series after the other."""
        series = self._archive.read(lambda tx: list(series_of(tx, asked.query, uid)))
        above = {} if not series else _one(self._archive.read(partial(_read_studies, page=[uid])))
        described = [above | describe_series(each) for each in series]
        if asked.level == "series":
            yield described
            return
        for each, around in zip(series, described, strict=True):
            rows = self._archive.read(partial(_read_instances, query=asked.query, series=each))
            yield [around | describe_instance(row) for row in rows]


def _limited(query: StudyQuery, most: int) -> StudyQuery:
    return replace(query, limit=most)


def _pages(keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
    for start in range(0, len(keys), PAGE):
        yield keys[start : start + PAGE]


def _one(found: Sequence[Described]) -> Described:
    return found[0] if found else {}


# -- within the index -----------------------------------------------------------------------
def _read_patients(tx: Tx, page: Sequence[int], *, counting: bool) -> list[Described]:
    described = []
    for number in page:
        patient = patients.get(tx, number)
        if patient is None:
            continue
        found = describe_patient(patient)
        if counting:
            held = studies.of_patient(tx, number)
            series, instances = sum(s.series for s in held), sum(s.instances for s in held)
            found |= describe_counts(
                dict(zip(_COUNTS, (len(held), series, instances), strict=True))
            )
        described.append(found)
    return described


def _read_instances(tx: Tx, query: Query, series: SeriesRow) -> list[InstanceRow]:
    return list(instances_of(tx, query, series))


def _read_found(tx: Tx, page: Sequence[Result], reached: frozenset[PeerId]) -> list[Described]:
    """Describe studies of any facility: what is held here as it is here, but by whose it is."""
    described = []
    for each in page:
        study = studies.get(tx, each.study_instance_uid) if each.held_here else None
        if study is None:
            described.append(describe_found(each, is_reached=each.facility.peer_id in reached))
        else:
            named = replace(study, institution=each.facility.name)
            described.append(describe_study(named, patients.get(tx, study.patient)))
    return described


def _read_studies(tx: Tx, page: Sequence[str]) -> list[Described]:
    """Describe the studies that are still there, in their order."""
    found = {
        study.study_instance_uid: study
        for study in studies.search(tx, StudyQuery(study_instance_uids=page))
    }
    return [
        describe_study(found[uid], patients.get(tx, found[uid].patient))
        for uid in page
        if uid in found
    ]
