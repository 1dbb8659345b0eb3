"""Keeps our journal in step with studies, consents, partners and the clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, Protocol

import structlog

from peer import audit
from peer.access import is_bounded
from peer.actors import NODE
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.config import Settings
from peer.errors import Conflict, NodeError
from peer.index import deferrals, journal, key_epochs, packs, publications, studies
from peer.index.database import Database, Tx
from peer.index.journal import Halt, JournalKeys
from peer.index.packs import ManifestRow
from peer.partners import Partner
from peer.publish.announcing import announcement
from peer.publish.difference import difference
from peer.publish.rebuilt import rebuild
from peer.publish.wanted import wanted
from protocol import manifest
from protocol.compaction import is_due
from protocol.errors import Refusal
from protocol.evaluation import EVERYONE
from protocol.identifiers import PeerId
from protocol.journal import NewEntry, Withdraw
from protocol.signing import sign

_log = structlog.get_logger()

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

    `partners` returns the active partners, loaded before anything here is called; `appended` is
    awaited after each commit that grew the journal; `may_write` says in a transaction whether the
    journal may grow at all now.
    """

    def __init__(
        self,
        db: Database,
        keys: Keys,
        clock: Clock,
        *,
        partners: Callable[[], Iterable[Partner]],
        appended: Callable[[], Awaitable[None]],
        may_write: Callable[[Tx], bool],
        settings: Settings,
    ) -> None:
        self._db = db
        self._keys = keys
        self._clock = clock
        self._partners = partners
        self._appended = appended
        self._may_write = may_write
        self._lease_s = settings.journal.lease_s
        self._renew_s = settings.journal.renew_s
        self._compaction_entries = settings.journal.compaction_entries
        self._look_at_all = True
        self._erase_due = False
        self._told_batch = -1
        self._wake = asyncio.Event()

    # -- in the caller's transaction; the caller awaits `written` after its commit -----------------

    def apply_in(self, tx: Tx, patient: int) -> int | None:
        """Make the journal say what is wanted of a patient.

        Returns the seq of the last entry written, or None if nothing had to change.
        """
        return self._reconcile(tx, [patient])

    def renew_in(self, tx: Tx, patients: Sequence[int]) -> None:
        """Publish patients anew, under new keys, as what is wanted of them now.

        Who they are has changed: no key that opened one of them may open what comes of the others.
        """
        for patient in patients:
            publications.renew(tx, patient)
        self._reconcile(tx, patients)

    def withdraw_in(self, tx: Tx, study_instance_uid: str) -> None:
        """Withdraw a study that is about to go, or is gone already, from every audience."""
        concerned = publications.patients_with(tx, study_instance_uid)
        self._reconcile(tx, concerned, without=study_instance_uid)

    async def written(self, _patients: object = None) -> None:
        """Tell the partners of a new head, and erase from the log what was withdrawn."""
        me = self._keys.peer_id
        head = await self._db.read(lambda tx: journal.head(tx, me))
        if head is not None and head.batch != self._told_batch:
            self._told_batch = head.batch
            await self._appended()
        await self._erase()

    # -- what happens elsewhere -------------------------------------------------------------------

    async def study_changed(self, study_instance_uid: str) -> None:
        """A study has settled, grown, or was held back or released."""

        def work(tx: Tx) -> None:
            study = studies.get(tx, study_instance_uid)
            if study is None:
                return
            if study.settled_at is not None and study.origin is None:
                self._sign_manifest(tx, study_instance_uid)
            self._reconcile(tx, [study.patient])

        await self._write(work)

    async def partner_changed(self, _peer_id: PeerId, state: str) -> None:
        """A partner became active or was removed: who may find what has changed."""
        if state in {"active", "removed"}:
            self._look_at_all = True
            self._wake.set()

    async def keys_due(self) -> None:
        """The keys of an audience are to be replaced."""
        self._look_at_all = True
        self._wake.set()

    async def journal_changed(self) -> None:
        """It may have become possible to write: what waited for that is due."""
        self._wake.set()

    # -- what time demands ------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep up with the clock and with the partners, until cancelled.

        A pass over all patients comes first: what was missed while the node was off is made good.
        """
        while True:
            try:
                await self._catch_up()
            except (NodeError, Refusal) as error:
                # A full disk or a halted journal: tried again until someone has helped.
                _log.warning("publish-interrupted", reason=type(error).__name__)
            # Not wait_for: until Python 3.12 it can swallow a cancellation, and run on for ever.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_S):
                    await self._wake.wait()
            self._wake.clear()

    async def _catch_up(self) -> None:
        if await self._db.read(journal.halted) is Halt.REGAINED:
            await self._write(self._rebuild)
        if await self._db.read(self._may_write):
            await self.renew()
            await self.apply_due()
            if self._look_at_all:
                await self.look_at_all()
            await self.compact()
        await self.written()

    async def renew(self) -> None:
        """Sign a fresh head if the last one is older than it should get; make batch 0 at first."""
        await self._write(self._renew)

    async def compact(self) -> None:
        """Move some of the oldest live entries to the tail of the journal, if enough are dead.

        One batch each time the schedule is looked at, so that a large journal takes hours and no
        partner's line is filled by it.
        """
        now, least = self._clock.now(), self._compaction_entries
        head = await self._db.read(lambda tx: journal.head(tx, self._keys.peer_id))
        if head is not None and is_due(head, least):
            await self._write(lambda tx: journal.compact(tx, self._keys, now, self._lease_s, least))

    async def apply_due(self) -> None:
        """Apply what consents say has begun or ended by now, missed while off or not."""
        now = self._clock.now()
        if await self._db.read(lambda tx: publications.due(tx, now)):
            await self._write(lambda tx: self._reconcile(tx, publications.due(tx, now)))

    async def look_at_all(self) -> None:
        """Reconcile every patient who has studies or publications; a change of keys ends here.

        Who had to wait for that with narrower terms is taken account of at once.  What fails is
        begun anew the next time.
        """
        while self._look_at_all:
            self._look_at_all = False
            try:
                await self._look_at_each()
            except BaseException:
                self._look_at_all = True
                raise

    async def _look_at_each(self) -> None:
        everyone = await self._db.read(_everyone)
        # At least once: a change of partners counts even where nobody is published.
        for start in range(0, len(everyone) or 1, PATIENTS_AT_A_TIME):
            some = everyone[start : start + PATIENTS_AT_A_TIME]
            await self._write(partial(self._reconcile, patients=some))
        if not self._look_at_all:
            await self._write(self._end_key_epochs)

    # -- inside a transaction ---------------------------------------------------------------------

    def _reconcile(self, tx: Tx, patients: Sequence[int], without: str = "") -> int | None:
        now = self._clock.now()
        if not self._may_write(tx):
            # What changed must not wait until the journal can be written; the journal follows it.
            for patient in patients:
                deferrals.defer(tx, patient, now)
            return None
        partners = tuple(self._partners())
        names = [bytes(one.peer_id) for one in partners]
        bounded = [bytes(one.peer_id) for one in partners if is_bounded(one.our_terms)]
        if key_epochs.hold(tx, EVERYONE, names, bounded):
            self._look_at_all = True
        entries: list[NewEntry] = []
        for patient in patients:
            wish = wanted(tx, patient, partners, now, without)
            changed = difference(tx, self._keys.search_master, patient, wish)
            if changed:
                _record(tx, patient, changed, now)
            entries += changed
        entries[:0] = announcement(tx, self._keys.search_master, publishing=bool(entries))
        seq = self._append(tx, entries) if entries else None
        for patient in patients:
            deferrals.make_good(tx, patient, seq)
        return seq

    def _rebuild(self, tx: Tx) -> None:
        """Bring what is published in step with a journal that was regained, and go on writing."""
        rebuilt: Sequence[NewEntry] = rebuild(
            tx,
            self._keys.peer_id,
            self._keys.search_master,
            tuple(self._partners()),
            self._clock.now(),
        )
        announced = announcement(tx, self._keys.search_master, publishing=bool(rebuilt))
        journal.resume(tx)
        self._look_at_all = True
        if announced or rebuilt or journal.begins_epoch(tx, self._keys.peer_id):
            self._append(tx, [*announced, *rebuilt])

    def _append(self, tx: Tx, entries: Sequence[NewEntry]) -> int:
        now = self._clock.now()
        head = journal.append_entries(tx, self._keys, entries, now, self._lease_s)
        if any(isinstance(entry, Withdraw) for entry in entries):
            self._erase_due = True
        return head.last_seq

    def _renew(self, tx: Tx) -> None:
        head = journal.head(tx, self._keys.peer_id)
        # A head from a clock that was ahead vouches for nothing until its time has come.
        if head is None or not 0 <= self._clock.now() - head.issued_at < self._renew_s:
            self._append(tx, ())

    def _end_key_epochs(self, tx: Tx) -> None:
        """Withdraw the fillers of key epochs under which nobody is published any more."""
        ended = key_epochs.end(tx)
        if ended:
            self._append(tx, [Withdraw(entry_id) for entry_id in ended])
        self._reconcile(tx, ())

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

    # -- after it ---------------------------------------------------------------------------------

    async def _write(self, work: Callable[[Tx], object]) -> None:
        await self._db.write(work)
        await self.written()

    async def _erase(self) -> None:
        if self._erase_due:
            self._erase_due = False
            try:
                await self._db.checkpoint_truncate()
            except Conflict:
                # A long read holds the log; `run` tries again.
                self._erase_due = True
            except BaseException:
                self._erase_due = True
                raise


def _everyone(tx: Tx) -> list[int]:
    """Return every patient with a study of our own or a publication."""
    return sorted({*publications.with_own_studies(tx), *publications.patients(tx)})


def _record(tx: Tx, patient: int, entries: Sequence[NewEntry], now: int) -> None:
    withdrawn = sum(isinstance(entry, Withdraw) for entry in entries)
    published = len(entries) - withdrawn
    event = AuditEvent(
        action="publish" if published else "withdraw",
        outcome="success",
        actor=NODE,
        patient=str(patient),
        detail={"published": published, "withdrawn": withdrawn},
    )
    audit.append(tx, event, now)
