"""The retention lock: no study of ours is purged before its months of availability are over.

The period runs from Study Date, the day of the examination at the place of the examination, not
from receipt.  It is over when that day's anniversary has passed everywhere on Earth, so that no
time zone shortens it; a 29 February has its anniversary on 1 March.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from peer import audit
from peer.actors import Actor, Role
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.config import Settings
from peer.errors import NotFound
from peer.index import studies
from peer.index.database import Database, Tx
from peer.index.studies import StudyRow
from peer.ingest import Ingest
from protocol.errors import Refusal

LEAST_MONTHS: Final = 12
"""What "at least a 12-month period after the study" demands (HCPCS G9340)."""

LAST_ZONE_S: Final = 12 * 3600
"""A day ends last at UTC-12."""

_MONTHS_PER_YEAR: Final = 12

Purged: TypeAlias = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Lock:
    """Whether a study is locked; `until` is the last day on which it is."""

    study_instance_uid: str
    study_date: str
    locked: bool
    until: dt.date | None
    reason: str


def locked_until(start: dt.date, months: int) -> dt.date:
    """Return the last day of a period of `months` after `start`."""
    months += start.month - 1
    year, month = start.year + months // _MONTHS_PER_YEAR, months % _MONTHS_PER_YEAR + 1
    if year >= dt.MAXYEAR:  # A mistyped Study Date; whoever releases it will see why.
        return dt.date(dt.MAXYEAR - 1, _MONTHS_PER_YEAR, 31)
    try:
        return dt.date(year, month, start.day)
    except ValueError:  # No such day in that month: the period ends on the day after.
        return dt.date(year, month + 1, 1)


def is_over(until: dt.date, now: int) -> bool:
    """Return whether the day `until` has ended everywhere at `now` (Unix seconds)."""
    end = dt.datetime.combine(until + dt.timedelta(days=1), dt.time(), dt.UTC)
    return now >= end.timestamp() + LAST_ZONE_S


def lock_of(study: StudyRow, months: int, now: int) -> Lock:
    """Return the lock of a study under a retention of `months`, never fewer than LEAST_MONTHS."""
    months = max(months, LEAST_MONTHS)
    uid, date = study.study_instance_uid, study.study_date
    if study.origin is not None:
        return Lock(uid, date, False, None, "A copy: the facility it came from keeps the study.")
    if date:
        start = dt.datetime.strptime(date, "%Y%m%d").replace(tzinfo=dt.UTC).date()
        since = f"Study Date {start.isoformat()}"
    else:
        start = dt.datetime.fromtimestamp(study.received_at, dt.UTC).date()
        since = f"its receipt on {start.isoformat()} (it has no Study Date)"
    until = locked_until(start, months)
    if is_over(until, now):
        reason = f"The {months} months since {since} are over."
        return Lock(uid, date, False, until, reason)
    reason = f"Kept for {months} months since {since}: until {until.isoformat()}."
    return Lock(uid, date, True, until, reason)


class Retention:
    """Says what must still be kept, and purges what need not."""

    def __init__(
        self,
        db: Database,
        ingest: Ingest,
        clock: Clock,
        settings: Settings,
        withdraw_in: Callable[[Tx, str], None],
    ) -> None:
        """`withdraw_in(tx, study_instance_uid)` withdraws what was published of a study."""
        self._db = db
        self._ingest = ingest
        self._clock = clock
        self._settings = settings
        self._withdraw_in = withdraw_in
        self._listeners: list[Purged] = []

    def on_purged(self, listener: Purged) -> None:
        """Have `listener` called with the Study Instance UID of each study that was purged."""
        self._listeners.append(listener)

    async def check(self, study_instance_uid: str) -> Lock:
        """Return the lock of a study; raise NotFound."""
        return self._lock(await self._db.read(lambda tx: _get(tx, study_instance_uid)))

    async def list(self) -> tuple[Lock, ...]:
        """Return the locks of the newest `lists.studies`, the newest study first."""
        most = self._settings.lists.studies
        found = await self._db.read(lambda tx: studies.list_studies(tx, most))
        return tuple(self._lock(study) for study in found)

    async def purge(self, study_instance_uid: str, actor: Actor, release_reason: str = "") -> None:
        """Destroy a study's keys, then its packs, and withdraw what was published of it.

        Raises NotFound, and Refusal "retention-lock" while it is locked, unless a privacy officer
        gives a reason to release it.  Either way there is an audit record.
        """
        study = await self._db.read(lambda tx: _get(tx, study_instance_uid))
        lock = self._lock(study)
        released = bool(release_reason.strip()) and Role.PRIVACY_OFFICER in actor.roles
        if lock.locked and not released:
            await self._refuse(study, lock, actor)
        now = self._clock.now()
        detail: dict[str, str | int] = {"instances": study.instances, "lock": lock.reason}
        if lock.locked:
            detail["release"] = release_reason.strip()
        event = _event("purge", "success", study, actor, detail)

        def also(tx: Tx) -> None:
            self._withdraw_in(tx, study_instance_uid)
            audit.append(tx, event, now)

        await self._ingest.remove_study(study_instance_uid, also)
        for listener in self._listeners:
            await listener(study_instance_uid)

    async def _refuse(self, study: StudyRow, lock: Lock, actor: Actor) -> None:
        event = _event("purge-refused", "refused", study, actor, {"lock": lock.reason})
        now = self._clock.now()
        await self._db.write(lambda tx: audit.append(tx, event, now))
        raise Refusal(
            "retention-lock",
            f"The study is locked. {lock.reason}",
            "Wait until then, or have a privacy officer release it with a reason.",
        )

    def _lock(self, study: StudyRow) -> Lock:
        return lock_of(study, self._settings.retention.months, self._clock.now())


def _get(tx: Tx, study_instance_uid: str) -> StudyRow:
    study = studies.get(tx, study_instance_uid)
    if study is None:
        raise NotFound("There is no such study here.")
    return study


def _event(
    action: str,
    outcome: Literal["success", "refused"],
    study: StudyRow,
    actor: Actor,
    detail: dict[str, str | int],
) -> AuditEvent:
    return AuditEvent(
        action=action,
        outcome=outcome,
        actor=actor,
        patient=str(study.patient),
        study_instance_uid=study.study_instance_uid,
        detail=detail,
    )
