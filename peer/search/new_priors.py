"""New studies of patients whom a search has listed: they appear by themselves, each once.

The key that opened a patient opens what its facility publishes of them later.  Nobody is asked
again: the journals that are held here are looked at whenever one has grown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import structlog

from peer import audit
from peer.actors import NODE, Actor, known_as
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.config import Search as SearchSettings
from peer.errors import NodeError
from peer.index import Database, Tx, new_priors
from peer.index.new_priors import NewPriorRow, Watched
from peer.keys import NodeKeys
from peer.partners import Partner
from peer.search.answer import Facility, person_json
from peer.search.asking import Head
from peer.search.found import holds
from peer.search.opening import is_live, open_studies
from protocol.digest import StudyDigest
from protocol.identifiers import PeerId

LOOK_S: Final = 5
"""How often it is seen whether a journal has grown: soon enough for people, and seldom enough that
a journal that grows all the time is not looked through after each of its batches."""

AT_A_TIME: Final = 64
"""Patients of one transaction: some hundredths of a second, in which no search waits for long."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class NewPrior:
    """A study that came after the search, as it is published now."""

    row: NewPriorRow
    facility: Facility
    study: StudyDigest

    def to_json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {
            "prior": self.row.prior,
            "facility": self.facility.to_json(),
            "study_instance_uid": self.study.study_instance_uid,
            "study_date": self.study.study_date,
            "modalities": list(self.study.modalities),
            "body_parts": list(self.study.body_parts),
            "description": self.study.description,
            "patient": person_json(self.row.opened.person),
            "found_at": self.row.found_at,
            "seen_at": self.row.seen_at,
        }


class NewPriors:
    """Who is told of what has come, and when they have seen it."""

    def __init__(
        self,
        db: Database,
        partners_db: Database,
        keys: NodeKeys,
        clock: Clock,
        settings: SearchSettings,
        *,
        partners: Callable[[], Iterable[Partner]],
        coverage: Callable[[], Mapping[PeerId, Head]],
    ) -> None:
        self._db = db
        self._partners_db = partners_db
        self._pseudonym_key = keys.pseudonym_key
        self._clock = clock
        self._watch_s = settings.watch_s
        self._most = settings.new_priors_listed
        self._partners = partners
        self._coverage = coverage
        self._looked: dict[PeerId, object] = {}
        self._listeners: list[Callable[[], None]] = []

    def on_found(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever something new was found, and is durable."""
        self._listeners.append(listener)

    def watch(self, tx: Tx, opened: int, actor: Actor, new: Iterable[str]) -> None:
        """Tell whoever has searched for a patient of what comes of them from now on.

        `new`: studies that this search is the first to list: news for who searched before.
        """
        if self._watch_s:
            who, now = known_as(actor, self._pseudonym_key), self._clock.now()
            new_priors.listed(tx, opened, new, who, now)
            new_priors.watch(tx, opened, who, now + self._watch_s)

    def searched(self, before: Mapping[PeerId, Head]) -> None:
        """Look again at what grew while a search ran, which `watch` came too late for.

        `before`: the journals as they were when the search began.  Call when it is on record.
        """
        for peer_id, head in before.items():
            if peer_id in self._looked and self._looked[peer_id] != head.head:
                del self._looked[peer_id]

    # -- finding ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Look at journals that have grown, until cancelled; at all of them first."""
        while True:
            try:
                await self.look()
            except NodeError as error:
                _log.warning("new-priors-interrupted", reason=type(error).__name__)
            await asyncio.sleep(LOOK_S)

    async def look(self) -> int:
        """Look at every journal that may be listed and has changed; return what has come."""
        now, found = self._clock.now(), 0
        coverage = self._coverage()
        for partner in list(self._partners()):
            head = coverage.get(partner.peer_id)
            if head is None or head.head is None or head.lease_over:
                continue
            if self._looked.get(partner.peer_id) == head.head:
                continue
            # Before it is looked at, so that `searched` can say meanwhile that it must be again.
            self._looked[partner.peer_id] = head.head
            try:
                found += await self._look_at(partner.peer_id, now)
            except BaseException:
                self._looked.pop(partner.peer_id, None)
                raise
        kept_since = now - self._watch_s
        await self._db.write(lambda tx: new_priors.forget_before(tx, now, kept_since))
        if found:
            for listener in self._listeners:
                listener()
        return found

    async def _look_at(self, origin: PeerId, now: int) -> int:
        found = last = 0
        while True:
            some = await self._db.read(
                partial(new_priors.watched, origin=origin, now=now, after=last, limit=AT_A_TIME)
            )
            if not some:
                return found
            last = some[-1].number
            fresh = await self._partners_db.read(partial(_fresh, some=some, now=now))
            if fresh:
                found += await self._db.write(
                    partial(self._add, origin=origin, fresh=fresh, now=now)
                )

    def _add(self, tx: Tx, origin: PeerId, fresh: Mapping[int, list[str]], now: int) -> int:
        count = sum(new_priors.add(tx, number, uids, now) for number, uids in fresh.items())
        if count:
            detail = {"studies": count}
            event = AuditEvent("new-priors", "success", NODE, partner=origin, detail=detail)
            audit.append(tx, event, now)
        return count

    # -- showing ----------------------------------------------------------------------------

    async def listed(self, actor: Actor) -> Sequence[NewPrior]:
        """Return what is news for someone, what they have not seen first.

        What was withdrawn or has expired since, and what may not be listed now, is left out.
        """
        who, now = known_as(actor, self._pseudonym_key), self._clock.now()
        rows = await self._db.read(lambda tx: new_priors.listed_for(tx, who, self._most))
        names = {each.peer_id: each.name for each in self._partners()}
        coverage = self._coverage()
        listable = {
            peer_id: Facility(peer_id, name)
            for peer_id, name in names.items()
            if peer_id in coverage and not coverage[peer_id].lease_over
        }
        rows = [row for row in rows if row.opened.origin in listable]
        return await self._partners_db.read(lambda tx: _shown(tx, rows, listable, now))

    async def waiting(self, actor: Actor) -> int:
        """Return how many studies someone has not seen."""
        return sum(each.row.seen_at is None for each in await self.listed(actor))

    async def seen(self, priors: Sequence[int], actor: Actor) -> int:
        """Note what someone has seen; return how much of it was news."""
        who, now = known_as(actor, self._pseudonym_key), self._clock.now()
        return await self._db.write(lambda tx: new_priors.seen(tx, who, priors, now))


def _fresh(tx: Tx, some: Sequence[Watched], now: int) -> dict[int, list[str]]:
    """Return the studies that were not known, by the number of the patient."""
    found: dict[int, list[str]] = {}
    for each in some:
        if not is_live(tx, each.opened):
            continue
        studies = [s.digest for s in open_studies(tx, each.opened) if holds(s.digest, now)]
        uids = [s.study_instance_uid for s in studies if s.study_instance_uid not in each.known]
        if uids:
            found[each.number] = uids
    return found


def _shown(
    tx: Tx, rows: Sequence[NewPriorRow], listable: Mapping[PeerId, Facility], now: int
) -> list[NewPrior]:
    open_now: dict[bytes, dict[str, StudyDigest]] = {}
    shown = []
    for row in rows:
        if row.opened.patient_key not in open_now:
            live = open_studies(tx, row.opened) if is_live(tx, row.opened) else ()
            open_now[row.opened.patient_key] = {
                each.digest.study_instance_uid: each.digest
                for each in live
                if holds(each.digest, now)
            }
        study = open_now[row.opened.patient_key].get(row.study_instance_uid)
        if study is not None:
            shown.append(NewPrior(row, listable[row.opened.origin], study))
    return shown
