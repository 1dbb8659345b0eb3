"""Checking what a partner shares against studies that people here know to be there.

A check is an ordinary search of that one partner, with all that goes with one: it learns what it
learns from any search, and neither who is looked for nor that it is being checked.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeAlias

from peer import audit
from peer.actors import Actor
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.errors import NotFound
from peer.index import Database, Tx, checks
from peer.index.checks import CheckRow
from protocol.completeness import COUNTED_DAYS, Look, Study, Tally, Verdict, judge, tally
from protocol.errors import LocalProtocolError
from protocol.identifiers import PatientIdentifier, PeerId
from protocol.matching.keys import Demographics
from protocol.quota import DAY_S

Looking: TypeAlias = Callable[[PeerId, Demographics, Actor], Awaitable[Look]]
"""Searches one partner for a person: `Search.look`."""


@dataclass(frozen=True, slots=True)
class Check:
    """A study that is known to be at a partner, and whether it was found."""

    row: CheckRow

    def to_json(self) -> dict[str, object]:
        """Return it as the API shows it."""
        row = self.row
        return {
            "check": row.number,
            "patient": json.loads(row.patient),
            "study_date": row.study_date,
            "accession_number": row.accession_number,
            "study_instance_uid": row.study_instance_uid,
            "modality": row.modality,
            "named_by": row.named_by,
            "named_at": row.named_at,
            "checked_at": row.checked_at,
            "verdict": row.verdict,
            "found_study_instance_uid": row.found_uid,
            "code": row.code,
        }


class Completeness:
    """Looks for named studies, remembers what came of it, and estimates from that."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._look: Looking | None = None

    def look_with(self, look: Looking) -> None:
        """Have checks made by `look`; once, before anyone asks for one."""
        self._look = look

    async def check(
        self, partner: PeerId, person: Demographics, known: Study, actor: Actor
    ) -> Check:
        """Look for a study that `actor` knows to be at a partner and to be shared with us.

        Raises Refusal as a search does.
        """
        now = self._clock.now()
        row = CheckRow(
            number=0,
            partner=partner,
            patient=_written(person),
            study_date=known.study_date,
            accession_number=known.accession_number,
            study_instance_uid=known.study_instance_uid,
            modality="\\".join(sorted(known.modalities)),
            named_by=actor.name,
            named_at=now,
            checked_at=now,
            verdict=Verdict.UNCHECKED,
            found_uid="",
            code="",
        )
        return await self._carry_out(row, actor)

    async def again(self, partner: PeerId, number: int, actor: Actor) -> Check:
        """Look for a study once more; raise NotFound, or Refusal as a search does."""
        row = await self._db.read(lambda tx: _known(tx, partner, number))
        return await self._carry_out(row, actor)

    async def drop(self, partner: PeerId, number: int, reason: str, actor: Actor) -> None:
        """Forget a study that was named by mistake, or is not shared with us after all."""
        now = self._clock.now()

        def work(tx: Tx) -> None:
            _known(tx, partner, number)
            checks.drop(tx, number)
            detail: dict[str, str | int] = {"check": number, "dropped": reason}
            audit.append(
                tx, AuditEvent("check", "success", actor, partner=partner, detail=detail), now
            )

        await self._db.write(work)

    async def list(self, partner: PeerId, limit: int) -> Sequence[Check]:
        """Return the latest checks of a partner, what was missed first."""
        return [
            Check(row)
            for row in await self._db.read(lambda tx: checks.of_partner(tx, partner, limit))
        ]

    async def estimate(self, partner: PeerId) -> Tally:
        """Return what the checks of the last COUNTED_DAYS say of a partner."""
        since = self._clock.now() - COUNTED_DAYS * DAY_S
        return tally(await self._db.read(lambda tx: checks.verdicts(tx, partner, since)))

    async def _carry_out(self, row: CheckRow, actor: Actor) -> Check:
        if self._look is None:
            raise LocalProtocolError("nothing was given to look with")
        partner = PeerId(row.partner)
        looked = await self._look(partner, _read(row.patient), actor)
        now = self._clock.now()
        known = Study(
            row.study_instance_uid,
            row.study_date,
            row.accession_number,
            frozenset(filter(None, row.modality.split("\\"))),
        )
        said = judge(known, looked, datetime.fromtimestamp(now, UTC).date())
        judged = replace(
            row,
            checked_at=now,
            verdict=said.verdict,
            found_uid=said.study_instance_uid,
            code=said.code,
        )

        def work(tx: Tx) -> int:
            number = checks.put(tx, judged)
            detail: dict[str, str | int] = {"check": number, "verdict": said.verdict}
            event = AuditEvent(
                "check",
                "success",
                actor,
                study_instance_uid=said.study_instance_uid,
                partner=partner,
                detail=detail | ({"code": said.code} if said.code else {}),
            )
            audit.append(tx, event, now)
            return number

        return Check(replace(judged, number=await self._db.write(work)))


def _known(tx: Tx, partner: PeerId, number: int) -> CheckRow:
    row = checks.get(tx, partner, number)
    if row is None:
        raise NotFound(
            "There is no such check; the list of the partner's checks shows all of them."
        )
    return row


def _written(person: Demographics) -> str:
    return json.dumps(
        {
            "name": person.names[0] if person.names else "",
            "birth_date": person.birth_date,
            "sex": person.sex,
            "identifiers": [
                {"issuer": each.issuer, "value": each.value} for each in person.identifiers
            ],
        },
        ensure_ascii=False,
    )


def _read(text: str) -> Demographics:
    said = json.loads(text)
    return Demographics(
        (said["name"],) if said["name"] else (),
        said["birth_date"],
        said["sex"],
        tuple(PatientIdentifier(each["issuer"], each["value"]) for each in said["identifiers"]),
    )
