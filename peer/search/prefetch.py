"""Patients who are expected are searched for ahead: slowly, within everybody's limits, in a name.

What a search opens stays open, so that the patient is found at once and while partners are offline.
Where priors are wanted too they are fetched, in the same name: their facility decides about each.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import structlog

from peer import audit
from peer.actors import Actor
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.config import Search as Settings
from peer.errors import NodeError, NotFound
from peer.index import expected
from peer.index.database import Database, Tx
from peer.index.expected import ExpectedRow, Why
from peer.search.answer import Answer, Question
from peer.search.search import Search
from peer.search.wanted import Wanted
from protocol.errors import Refusal
from protocol.identifiers import PatientIdentifier, PeerId

RETRY_S: Final = 900
"""After how long a facility that was not searched is tried again: long enough for an outage to end
and for an hour's limit to move on, short enough for a list that is made the day before."""

MINUTE_S: Final = 60

NO_REASON: Final = Why()

Fetch: TypeAlias = Callable[[PeerId, str, Actor], Awaitable[object]]
"""Begins to fetch a study of a facility: `Retrieve.retrieve`."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Expected:
    """An expected patient and what came of searching for them."""

    row: ExpectedRow

    @property
    def question(self) -> Question:
        """Whom to look for."""
        asked = json.loads(self.row.question)
        identifiers = tuple(PatientIdentifier(*each) for each in asked.pop("identifiers"))
        return Question(**asked, identifiers=identifiers)

    @property
    def actor(self) -> Actor:
        """In whose name, and for what purpose."""
        asker = json.loads(self.row.asker)
        return Actor(**asker | {"roles": frozenset(asker["roles"])})

    @property
    def missing(self) -> tuple[PeerId, ...]:
        """The facilities that are yet to be searched; empty before the first search."""
        return tuple(PeerId(bytes.fromhex(each)) for each in self.row.missing.split())

    @property
    def fetched(self) -> list[str]:
        """The priors that were asked for."""
        return list(json.loads(self.row.fetched))

    def to_json(self) -> dict[str, object]:
        """Return it as the API shows it."""
        question, row = self.question, self.row
        return {
            "expected": row.expected,
            "name": question.name,
            "birth_date": question.birth_date,
            "by": self.actor.name,
            "purpose": self.actor.purpose,
            "state": "waiting" if row.due_at is not None else "done",
            "added_at": row.added_at,
            "until": row.until,
            "tried_at": row.tried_at,
            "studies": row.studies,
            "sentence": row.sentence,
            "note": row.note,
            "fetched": self.fetched,
        }


class Prefetch:
    """The list of expected patients, and the one who works it off."""

    def __init__(self, db: Database, clock: Clock, search: Search, settings: Settings) -> None:
        self._db = db
        self._clock = clock
        self._search = search
        self._pause_s = MINUTE_S / settings.prefetch_per_minute
        self._keep_s = settings.prefetch_keep_s
        self._added = asyncio.Event()
        self._fetch: Fetch | None = None

    def fetch_with(self, fetch: Fetch) -> None:
        """Let `fetch` begin to fetch the priors that are wanted."""
        self._fetch = fetch

    async def add(self, questions: Sequence[Question], actor: Actor) -> int:
        """Put patients on the list, in someone's name; return how many are still to be searched.

        Raises Refusal, and adds nobody, if a question is one that a search refuses.
        """
        for place, question in enumerate(questions, 1):
            try:
                question.must_narrow()
            except Refusal as refusal:
                reason = f"Patient {place} of the list: {refusal.reason}"
                raise Refusal(refusal.code, reason, refusal.remedy) from None
        waiting = await self._db.write(lambda tx: self.add_in(tx, questions, actor))
        self.look()
        return waiting

    def add_in(
        self, tx: Tx, questions: Sequence[Question], actor: Actor, why: Why = NO_REASON
    ) -> int:
        """Put patients on the list in the caller's transaction; `look` is to be called after it."""
        now = self._clock.now()
        expected.forget(tx, now)
        for question in questions:
            expected.add(tx, _written(question), _signed(actor), why, now, now + self._keep_s)
        detail: dict[str, str | int] = {"patients": len(questions)}
        if why.note:
            detail["note"] = why.note
        audit.append(tx, AuditEvent("prefetch", "success", actor, detail=detail), now)
        return expected.count_waiting(tx)

    def replace_in(
        self, tx: Tx, question: Question, actor: Actor, whys: Sequence[Why], causes: Collection[str]
    ) -> None:
        """Let a patient be expected for `whys`, and nobody for anything else of `causes`.

        For causes of an actor of this name and kind, in the caller's transaction.
        """
        written, signed = _written(question), _signed(actor)
        known = {each: expected.waiting(tx, written, signed, each) for each in whys}
        kept = {each for each in known.values() if each is not None}
        if gone := expected.withdraw(tx, actor.name, actor.kind, causes, kept):
            event = AuditEvent("prefetch", "success", actor, detail={"withdrawn": gone})
            audit.append(tx, event, self._clock.now())
        for why in known:
            self.add_in(tx, [question], actor, why)

    def look(self) -> None:
        """Look at the list now: somebody was put on it."""
        self._added.set()

    async def list(self, limit: int) -> Sequence[Expected]:
        """Return the patients on the list, the latest first."""
        return [Expected(row) for row in await self._db.read(lambda tx: expected.newest(tx, limit))]

    async def drop(self, number: int, actor: Actor) -> None:
        """Take a patient off the list; raise NotFound."""
        event = AuditEvent("prefetch", "success", actor, detail={"dropped": number})

        def work(tx: Tx) -> None:
            if not expected.drop(tx, number):
                raise NotFound("There is no such patient on the list. List it to find the number.")
            audit.append(tx, event, self._clock.now())

        await self._db.write(work)

    async def run(self) -> None:
        """Work the list off, until cancelled; what was left by the last run is gone on with."""
        while True:
            self._added.clear()
            try:
                worked = await self.step()
            except NodeError as error:
                _log.warning("prefetch-failed", reason=type(error).__name__)
                worked = False
            if worked:
                await asyncio.sleep(self._pause_s)
            else:
                await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(MINUTE_S):
                await self._added.wait()
        except TimeoutError:
            pass

    async def step(self) -> bool:
        """Search for whoever is due next and may be searched for now; return whether one was."""
        now = self._clock.now()
        for row in await self._db.read(lambda tx: expected.due(tx, now)):
            patient = Expected(row)
            if await self._search.has_room(patient.actor):
                await self._look(patient)
                return True
        await self._db.write(lambda tx: expected.forget(tx, now))
        return False

    async def _look(self, patient: Expected) -> None:
        missing, said, studies = [], "", 0
        asked_for = patient.fetched
        try:
            for facility in patient.missing or (None,):
                answer = await self._search.search(patient.question, patient.actor, only=facility)
                missing += [each.peer_id.hex() for each in _not_searched(answer)]
                said, studies = answer.coverage.sentence, max(studies, len(answer.results))
                asked_for += await self._fetched(patient, answer, asked_for)
        except Refusal as refusal:
            said = f"{refusal.reason} {refusal.remedy}".strip()
        now = self._clock.now()

        def work(tx: Tx) -> None:
            if expected.stands(tx, patient.row):
                expected.tried(
                    tx,
                    patient.row.expected,
                    due_at=now + RETRY_S if missing else None,
                    now=now,
                    missing=" ".join(missing),
                    studies=studies,
                    said=said,
                )

        await self._db.write(work)

    async def _fetched(
        self, patient: Expected, answer: Answer, before: Sequence[str]
    ) -> Sequence[str]:
        """Begin to fetch the priors that are wanted of an answer; return which."""
        found = Wanted.read(patient.row.wanted).chosen(answer.results, before)
        if self._fetch is None or not found:
            return []
        uids: list[str] = []
        for each in found:
            # The order may have been taken back meanwhile.
            if not await self._db.read(lambda tx: expected.stands(tx, patient.row)):
                break
            await self._fetch(each.facility.peer_id, each.study_instance_uid, patient.actor)
            uids.append(each.study_instance_uid)
        kept = json.dumps([*before, *uids])

        def work(tx: Tx) -> None:
            if expected.stands(tx, patient.row):
                expected.fetched(tx, patient.row.expected, kept)

        await self._db.write(work)
        return uids


def _not_searched(answer: Answer) -> list[Any]:
    return [each.facility for each in answer.coverage.not_searched]


def _written(question: Question) -> str:
    return json.dumps(
        {
            "name": question.name,
            "birth_date": question.birth_date,
            "sex": question.sex,
            "identifiers": [(each.issuer, each.value) for each in question.identifiers],
        }
    )


def _signed(actor: Actor) -> str:
    return json.dumps(
        {
            "name": actor.name,
            "kind": actor.kind,
            "roles": sorted(actor.roles),
            "purpose": actor.purpose,
            "pseudonym": actor.pseudonym,
            "per_hour": actor.per_hour,
        }
    )
