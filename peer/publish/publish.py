"""Keeps our journal in step with studies, consents, partners and the clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Final, Protocol

from peer import audit
from peer.audit import Actor, AuditEvent
from peer.clock import Clock
from peer.config import Settings
from peer.errors import Conflict
from peer.index import journal, packs, publications, studies
from peer.index.database import Database, Tx
from peer.index.journal import JournalKeys
from peer.index.packs import ManifestRow
from peer.partners import Partner
from peer.publish.difference import difference
from peer.publish.wanted import wanted
from protocol import manifest
from protocol.evaluation import EVERYONE
from protocol.identifiers import PeerId
from protocol.journal import NewEntry, Withdraw
from protocol.signing import sign

PATIENTS_AT_A_TIME: Final = 32
"""Patients of one transaction in a pass over all: a tenth of a second in which nobody else writes,
and one journal batch for all of them."""

LOOK_AGAIN_S: Final = 5
"""How often the schedule is looked at.  Receivers hide an expired study by their own clock."""


class Keys(JournalKeys, Protocol):
    """What publishing needs of the node's keys."""

    @property
    def search_master(self) -> bytes:
        """Master of the keys of the blinded evaluation, 32 B."""


class Publish:
    """Publishes and withdraws.

    `partners` returns the active partners; `appended` is called after each commit that grew the
    journal.  Register `apply_in` with the consents and `study_changed` with the ingest.
    """

    def __init__(
        self,
        db: Database,
        keys: Keys,
        clock: Clock,
        partners: Callable[[], Iterable[Partner]],
        appended: Callable[[], Awaitable[None]],
        settings: Settings,
    ) -> None:
        self._db = db
        self._keys = keys
        self._clock = clock
        self._partners = partners
        self._appended = appended
        self._lease_s = settings.journal.lease_s
        self._renew_s = settings.journal.renew_s
        self._erase_later = False
        self._look_at_all = True
        self._wake = asyncio.Event()

    # -- what others call -------------------------------------------------------------------------

    def apply_in(self, tx: Tx, patient: int) -> int | None:
        """Make the journal say what is wanted of a patient, in the caller's transaction.

        Returns the seq of the last entry written, or None if nothing had to change.  The caller
        awaits `written` after its commit.
        """
        if journal.halted(tx):
            # What changed must not wait for the journal's recovery; the journal follows after it.
            publications.schedule(tx, patient, self._clock.now())
            return None
        return self._reconcile(tx, [patient])

    async def written(self, _patients: object = None) -> None:
        """Erase what was withdrawn from the write-ahead log too, and tell the partners."""
        await self._erase()
        await self._appended()

    async def study_changed(self, study_instance_uid: str) -> None:
        """A study has settled, grown, or was held back or released."""

        def work(tx: Tx) -> int | None:
            study = studies.get(tx, study_instance_uid)
            if study is None:
                return None
            if study.settled_at is not None and study.origin is None:
                self._sign_manifest(tx, study_instance_uid)
            return self.apply_in(tx, study.patient)

        await self._write(work)

    async def patient_changed(self, patient: int) -> None:
        """Something about a patient changed: merged, split, corrected, or a study was purged."""
        await self._write(lambda tx: self.apply_in(tx, patient))

    async def partner_changed(self, peer_id: PeerId, state: str) -> None:
        """A partner became active or was removed: who may find what has changed.

        A removed partner knew keys of the audience of everyone: they are changed for new ones.
        """
        if state == "removed":
            await self._db.write(lambda tx: self._begin_re_key(tx, peer_id))
        self._look_at_all = True
        self._wake.set()

    async def look_at_all(self) -> None:
        """Reconcile every patient that has studies or publications; a re-key ends here."""
        while self._look_at_all:
            self._look_at_all = False
            patients = await self._db.read(_everyone)
            for start in range(0, len(patients), PATIENTS_AT_A_TIME):
                some = patients[start : start + PATIENTS_AT_A_TIME]
                await self._write(partial(self._reconcile, patients=some))
        await self._write(self._end_re_key)

    async def run(self) -> None:
        """Do what time demands: begin and end of consents, the lease, passes over all patients."""
        while True:
            if not await self._db.read(journal.halted):
                await self.renew()
                await self.apply_due()
                if self._look_at_all:
                    await self.look_at_all()
            await self._erase()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOOK_AGAIN_S)
            self._wake.clear()

    async def apply_due(self) -> None:
        """Apply what consents say has begun or ended by now, missed while off or not."""
        now = self._clock.now()
        if await self._db.read(lambda tx: publications.due(tx, now)):
            await self._write(lambda tx: self._reconcile(tx, publications.due(tx, now)))

    async def renew(self) -> None:
        """Sign a fresh head if the last one is older than it should get; make batch 0 at first."""
        await self._write(self._renew)

    # -- inside a transaction ---------------------------------------------------------------------

    def _reconcile(self, tx: Tx, patients: Iterable[int]) -> int | None:
        now = self._clock.now()
        partners = tuple(self._partners())
        entries: list[NewEntry] = []
        for patient in patients:
            wish = wanted(tx, patient, partners, now)
            changed = difference(tx, self._keys.search_master, patient, wish)
            if changed:
                _record(tx, patient, changed, now)
            entries += changed
        return self._append(tx, entries) if entries else None

    def _append(self, tx: Tx, entries: Iterable[NewEntry]) -> int:
        head = journal.append_entries(
            tx, self._keys, tuple(entries), self._clock.now(), self._lease_s
        )
        self._erase_later = True  # written only here, in the transaction; read after its commit
        return head.last_seq

    def _renew(self, tx: Tx) -> int | None:
        head = journal.head(tx, self._keys.peer_id)
        if head is not None and self._clock.now() < head.issued_at + self._renew_s:
            return None
        return self._append(tx, ())

    def _sign_manifest(self, tx: Tx, study_instance_uid: str) -> None:
        """Sign a manifest of what the study holds, unless the current one says just that."""
        built = packs.build_manifest(tx, study_instance_uid)
        current = packs.get_manifest(tx, study_instance_uid)
        if current is not None:
            same = replace(built, version=current.version)
            if manifest.root(same) == current.root:
                return
        signed = manifest.sign_manifest(
            built, lambda data: sign(self._keys.node_seed, manifest.DOMAIN, data)
        )
        row = ManifestRow(built.version, manifest.root(built), signed, self._clock.now())
        packs.put_manifest(tx, study_instance_uid, row)

    def _begin_re_key(self, tx: Tx, peer_id: PeerId) -> None:
        publications.begin_key_epoch(tx, EVERYONE)
        publications.begin_key_epoch(tx, peer_id)

    def _end_re_key(self, tx: Tx) -> int | None:
        """Withdraw the fillers of key epochs under which nobody is published any more."""
        ended = publications.end_key_epochs(tx)
        return self._append(tx, [Withdraw(entry_id) for entry_id in ended]) if ended else None

    # -- after it ---------------------------------------------------------------------------------

    async def _write(self, work: Callable[[Tx], int | None]) -> None:
        if await self._db.write(work) is not None:
            await self.written()

    async def _erase(self) -> None:
        if not self._erase_later:
            return
        self._erase_later = False
        try:
            await self._db.checkpoint_truncate()
        except Conflict:
            # A long read holds the log; `run` tries again.
            self._erase_later = True


def _everyone(tx: Tx) -> list[int]:
    """Return every patient with a study of our own or a publication."""
    with_studies = publications.with_own_studies(tx)
    return sorted({*with_studies, *publications.patients(tx)})


def _record(tx: Tx, patient: int, entries: Iterable[NewEntry], now: int) -> None:
    withdrawn = sum(isinstance(entry, Withdraw) for entry in entries)
    published = sum(1 for _ in entries) - withdrawn
    event = AuditEvent(
        action="publish" if published else "withdraw",
        outcome="success",
        actor=Actor(name="node", kind="node", roles=frozenset()),
        patient=str(patient),
        detail={"published": published, "withdrawn": withdrawn},
    )
    audit.append(tx, event, now)
