"""Studies collected from PACS: listed by C-FIND, fetched by C-GET or C-MOVE, and compared.

What a PACS says it has is compared, instance by instance, with what is held here, before and after
it is asked to send: nothing counts as collected because somebody said so.  Where each collection
stands is on disk, so it goes on after a restart; what is here already is not fetched again.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol, TypeVar

import structlog

from peer import audit
from peer.actors import NODE, Actor
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.config import DicomSettings
from peer.errors import NodeError, NotFound
from peer.index import Database, Tx, collected
from peer.index.collected import CollectedStudy, CollectionRow
from protocol.errors import Refusal

Made = TypeVar("Made")

ATTEMPTS: Final = 3
"""How often a PACS is asked to list, or to send a study, before that counts as failed."""

LOOK_S: Final = 5.0
"""How often it is looked whether a scheduled collection is due."""

SHOWN: Final = 1000
"""Most collections of one answer, and most studies that lack something."""

OVERLAP_DAYS: Final = 1
"""A scheduled collection begins so long before the last complete one: studies come in late."""


_log = structlog.get_logger(__name__)


class Pacs(Protocol):
    """What is asked of a PACS, named by its AE title.  Every method raises Refusal, and blocks."""

    def echo(self, title: str) -> None:
        """Return if it answers a C-ECHO."""

    def find(self, title: str, level: str, keys: Mapping[str, str]) -> list[dict[str, str]]:
        """Return all matches, each with the values of `keys`."""

    def fetch(self, title: str, study_instance_uid: str, sop_classes: Sequence[str]) -> str:
        """Have a study sent here; return what the PACS says did not go well, "" if all did."""


@dataclass(frozen=True, slots=True)
class Report:
    """Where a collection stands, and the studies of which something is missing."""

    collection: CollectionRow
    studies: list[CollectedStudy]


class Collection:
    """Collects, one study after the other, one collection after the other."""

    def __init__(self, db: Database, pacs: Pacs, clock: Clock, settings: DicomSettings) -> None:
        self._db = db
        self._pacs = pacs
        self._clock = clock
        self._aes = {ae.title: ae for ae in settings.known_aes}
        self._retry_s = settings.retry_s
        self._wanted = asyncio.Event()
        self._wanted.set()  # Some may be under way since before the start.

    def titles(self) -> list[str]:
        """Return the AE titles that can be called."""
        return sorted(title for title, ae in self._aes.items() if ae.host)

    async def echo(self, title: str) -> None:
        """Return if the PACS answers a C-ECHO; raise NotFound, or Refusal that says why not."""
        self._must_know(title)
        await asyncio.to_thread(self._pacs.echo, title)

    async def begin(self, title: str, keys: Mapping[str, str], actor: Actor) -> CollectionRow:
        """Begin to collect what matches; raise NotFound for an AE that cannot be called."""
        self._must_know(title)
        number = await self._begin(title, keys, actor, is_scheduled=False)
        return (await self.report(number)).collection

    async def report(self, collection: int) -> Report:
        """Return where a collection stands; raise NotFound."""

        def work(tx: Tx) -> Report | None:
            row = collected.get(tx, collection)
            if row is None:
                return None
            return Report(row, collected.not_complete(tx, collection, SHOWN))

        found = await self._db.read(work)
        if found is None:
            raise NotFound("There is no collection of this number.")
        return found

    async def list(self) -> list[CollectionRow]:
        """Return the collections, the newest first."""
        return await self._db.read(partial(collected.newest, most=SHOWN))

    async def run(self) -> None:
        """Go on with what is under way, and begin what is due, until cancelled."""
        busy: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                self._wanted.clear()
                with self._said():
                    await self._begin_due()
                    # Each PACS for itself: one that does not answer holds no other up.
                    for title in await self._db.read(collected.unfinished_titles):
                        if title not in busy or busy[title].done():
                            busy[title] = asyncio.create_task(self._work_off(title))
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._wanted.wait()
        finally:
            for task in busy.values():
                task.cancel()
            await asyncio.gather(*busy.values(), return_exceptions=True)

    async def _work_off(self, title: str) -> None:
        """Take the collections from one PACS to their ends, one after the other."""
        with self._said():
            while number := await self._db.read(partial(collected.unfinished_of, title=title)):
                await self._go_on(number)

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Log what interrupts a collection; it goes on at the next look."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - a full disk, or a fault of ours
            _log.warning("collection-interrupted", error=type(error).__name__)

    def _must_know(self, title: str) -> None:
        ae = self._aes.get(title)
        if ae is None or not ae.host:
            raise NotFound(
                "No AE of this title is on record with a host. Add it to dicom.known_aes."
            )

    async def _begin(
        self, title: str, keys: Mapping[str, str], actor: Actor, *, is_scheduled: bool
    ) -> int:
        now = self._clock.now()

        def work(tx: Tx) -> int:
            audit.append(tx, AuditEvent("collect", "success", actor, detail={"pacs": title}), now)
            return collected.begin(tx, title, keys, now, is_scheduled=is_scheduled)

        number = await self._db.write(work)
        self._wanted.set()
        return number

    async def _begin_due(self) -> None:
        for title, ae in self._aes.items():
            if not (ae.collect_every_s and ae.host):
                continue
            last, since = await self._db.read(partial(collected.last_scheduled, title=title))
            now = self._clock.now()
            if last is None or last + ae.collect_every_s <= now:
                begin = dt.datetime.fromtimestamp(now if since is None else since, dt.UTC)
                first = (begin - dt.timedelta(days=OVERLAP_DAYS)).strftime("%Y%m%d")
                await self._begin(title, {"StudyDate": f"{first}-"}, NODE, is_scheduled=True)

    async def _go_on(self, number: int) -> None:
        """Take a collection to its end, or to where it must wait for the next attempt."""
        row = (await self.report(number)).collection
        while row.state == "listing":
            if row.attempts >= ATTEMPTS:
                await self._end(row, "failed")
                return
            if row.attempts:
                await asyncio.sleep(self._retry_s)
            await self._list(row)
            row = (await self.report(number)).collection
        while study := await self._db.read(partial(collected.next_waiting, collection=number)):
            if study.attempts:
                await asyncio.sleep(self._retry_s)
            await self._collect(row, study)
        row = (await self.report(number)).collection
        await self._end(row, "complete" if row.complete == row.studies else "incomplete")

    async def _end(self, row: CollectionRow, state: str) -> None:
        now = self._clock.now()
        outcome = "success" if state == "complete" else "failed"
        detail: dict[str, str | int] = {
            "pacs": row.title,
            "studies": row.studies,
            "missing": row.missing,
        }

        def work(tx: Tx) -> None:
            collected.end(tx, row.collection, state, now)
            audit.append(tx, AuditEvent("collect", outcome, NODE, detail=detail), now)

        await self._db.write(work)
        _log.info("collected", code=state, count=row.studies)

    async def _list(self, row: CollectionRow) -> None:
        keys = {"StudyInstanceUID": ""} | row.keys
        found, why = await _tried(asyncio.to_thread(self._pacs.find, row.title, "STUDY", keys))
        if found is None:
            await self._db.write(lambda tx: collected.note(tx, row.collection, why))
            return
        uids = dict.fromkeys(uid for each in found if (uid := each["StudyInstanceUID"]))
        await self._db.write(lambda tx: collected.list_studies(tx, row.collection, uids))

    async def _collect(self, row: CollectionRow, study: CollectedStudy) -> None:
        """Make one attempt at a study, and record how it stands then."""
        attempts = study.attempts + 1
        made, why = await _tried(self._fetched(row, study))
        listed, missing, said = (study.listed, ("",), why) if made is None else made
        now = study if made is None else replace(study, listed=listed, missing=missing)
        state = "complete"
        if missing:
            state = "waiting" if attempts < ATTEMPTS else "incomplete"
            said = said or "The PACS sent less than it lists."
        now = replace(now, state=state, attempts=attempts, reason=said if missing else "")
        await self._db.write(lambda tx: collected.put(tx, row.collection, now))

    async def _fetched(
        self, row: CollectionRow, study: CollectedStudy
    ) -> tuple[int, tuple[str, ...], str]:
        """Have a study sent; return how many the PACS lists, what is missing, and what it says."""
        title, uid, said = row.title, study.study_instance_uid, ""
        listed = await asyncio.to_thread(self._listed, title, uid)
        missing = await self._lacking(listed)
        if missing:
            classes = sorted({listed[each] for each in missing} - {""})
            said = await asyncio.to_thread(self._pacs.fetch, title, uid, classes)
            missing = await self._lacking(listed)
        return len(listed), missing, said

    def _listed(self, title: str, study: str) -> dict[str, str]:
        """Return the instances that the PACS lists for a study, with their SOP classes.

        Raises Refusal, also if it names none: then nobody knows what is missing.
        """
        above = {"StudyInstanceUID": study}
        listed: dict[str, str] = {}
        for series in self._pacs.find(title, "SERIES", above | {"SeriesInstanceUID": ""}):
            keys = above | {"SeriesInstanceUID": series["SeriesInstanceUID"]}
            wanted = keys | {"SOPInstanceUID": "", "SOPClassUID": ""}
            for each in self._pacs.find(title, "IMAGE", wanted):
                listed[each["SOPInstanceUID"]] = each["SOPClassUID"]
        if not listed or "" in listed:
            raise Refusal(
                "pacs-failed",
                f"{title} does not list the instances of this study.",
                "Let its administrator allow queries at SERIES and IMAGE level.",
            )
        return listed

    async def _lacking(self, listed: Mapping[str, str]) -> tuple[str, ...]:
        return await self._db.read(partial(collected.lacking, sop_instance_uids=tuple(listed)))


async def _tried(work: Awaitable[Made]) -> tuple[Made | None, str]:
    """Return what an attempt brings, or None and why it came to nothing: whatever that is."""
    try:
        return await work, ""
    except Exception as error:  # noqa: BLE001 - a fault of ours counts as an attempt too
        return None, _reason(error)


def _reason(error: Exception) -> str:
    """Return why an attempt came to nothing, for the operator; of a fault of ours its class."""
    if isinstance(error, (Refusal, NodeError)):
        return str(error)
    _log.error("collection-failed", exc_info=error)
    return f"The node failed ({type(error).__name__}); its log names the place."
