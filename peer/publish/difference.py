"""From what should be published of a patient to the journal entries that make it so.

One function for every cause: it compares what is wanted with what is published and returns the
difference.  It is idempotent, and it runs in the transaction of whatever changed the wish.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from peer.index import key_epochs, publications
from peer.index.database import Tx
from peer.index.publications import PublishedPatient, PublishedStudy, SlotChain
from protocol import chains, digest, evaluation, limits
from protocol.chains import Chain
from protocol.digest import PatientCard, Slot, SlotType, StudyDigest
from protocol.entries import SALT_BYTES
from protocol.evaluation import Tier
from protocol.hashing import plain_hash
from protocol.identifiers import ENTRY_ID_BYTES, EntryId
from protocol.journal import NewEntry, Publish, Withdraw
from protocol.matching.keys import MatchKey
from protocol.records import to_bytes

HANDLE_BYTES = 16
NO_HANDLE = bytes(HANDLE_BYTES)
"""Stands in a wanted digest; the handle is drawn when the study is published."""

_TIERS = {"strong": (Tier.STRONG, SlotType.STRONG), "weak": (Tier.WEAK, SlotType.WEAK)}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one audience should find of a patient.

    card: its `highest_position` is filled in here.  match_keys: of both tiers, to publish under.
    grounds: references of the directives that permit it; other grounds need a new patient key.
    studies: by Study Instance UID, each with NO_HANDLE; None leaves the study as it is published,
    if it is: its instances are still coming.
    """

    card: PatientCard
    match_keys: tuple[MatchKey, ...]
    grounds: tuple[bytes, ...]
    studies: Mapping[str, StudyDigest | None]

    def content_hash(self) -> bytes:
        """Return the hash that changes whenever a new patient key is due."""
        texts = "\n".join(key.text for key in self.match_keys).encode()
        return plain_hash(b"".join((to_bytes(self.card), *self.grounds, texts)))


def difference(
    tx: Tx, search_master: bytes, patient: int, wanted: Mapping[bytes, Wanted]
) -> tuple[NewEntry, ...]:
    """Make the tables say what is wanted (by audience) and return the entries that tell it.

    The entries must be appended to the journal in the same transaction and in their order: fillers,
    withdrawals, publications, so that no reader's walk ends too early in between.
    """
    work = _Difference(tx, search_master)
    published = publications.of_patient(tx, patient)
    for audience in sorted(published.keys() | wanted.keys()):
        work.audience(patient, audience, published.get(audience), wanted.get(audience))
    return work.entries()


def mend(
    tx: Tx, search_master: bytes, slot_chains: Sequence[int], published: Sequence[int]
) -> tuple[NewEntry, ...]:
    """Return the fillers that these chains need so that no walk ends too early.

    slot_chains: numbers of chains of match keys; published: of patients with a chain of studies.
    """
    work = _Difference(tx, search_master)
    for number in slot_chains:
        if (chain := publications.chain(tx, number)) is not None:
            work.mend_slots(chain)
    for number in published:
        if (patient := publications.get(tx, number)) is not None:
            work.mend_studies(patient)
    return work.entries()


class _Difference:
    def __init__(self, tx: Tx, search_master: bytes) -> None:
        self._tx = tx
        self._master = search_master
        self._keys: dict[tuple[Tier, bytes, int], bytes] = {}
        self._slot_fillers: dict[tuple[bytes, int], list[Slot]] = {}
        self._fillers: list[NewEntry] = []
        self._withdrawals: list[NewEntry] = []
        self._publications: list[NewEntry] = []

    def entries(self) -> tuple[NewEntry, ...]:
        for (audience, epoch), slots in self._slot_fillers.items():
            for some in _portions(slots):
                salt = secrets.token_bytes(SALT_BYTES)
                random = secrets.token_bytes(digest.filler_random_bytes(len(some)))
                entry_id = self._add(
                    self._fillers, salt, digest.seal_slot_fillers(some, salt, random)
                )
                publications.add_filler_entry(self._tx, entry_id, audience, epoch)
        return (*self._fillers, *self._withdrawals, *self._publications)

    def audience(
        self,
        patient: int,
        audience: bytes,
        published: PublishedPatient | None,
        wanted: Wanted | None,
    ) -> None:
        epoch = key_epochs.present(self._tx, audience)
        if published is not None and not (
            wanted is not None
            and published.key_epoch == epoch
            and published.content_hash == wanted.content_hash()
        ):
            self._withdraw_patient(published)
            published = None
        if wanted is None:
            return
        if published is None:
            if not any(wanted.studies.values()):
                return
            published = self._publish_patient(patient, audience, epoch, wanted)
        self._studies(published, wanted)

    # -- patients -----------------------------------------------------------------------------

    def _withdraw_patient(self, published: PublishedPatient) -> None:
        """Withdraw card, slots and digests, fillers too: the patient key is never used again."""
        for chain, position in publications.slots_of(self._tx, published.published):
            change = chains.change(chain.state, withdrawn=(position,))
            publications.change_chain(self._tx, chain.chain, change, withdrawn=(position,))
            self._note_fillers(chain, change.fillers)
        self._withdraw(published.entry_id)
        for study in publications.studies_of(self._tx, published.published):
            self._withdraw(study.entry_id)
        publications.remove_patient(self._tx, published.published)

    def _publish_patient(
        self, patient: int, audience: bytes, epoch: int, wanted: Wanted
    ) -> PublishedPatient:
        patient_key = secrets.token_bytes(digest.PATIENT_KEY_BYTES)
        row = PublishedPatient(
            published=0,
            patient=patient,
            audience=audience,
            key_epoch=epoch,
            patient_key=patient_key,
            entry_id=secrets.token_bytes(ENTRY_ID_BYTES),
            content_hash=wanted.content_hash(),
            next_position=0,
        )
        row = replace(row, published=publications.add_patient(self._tx, row))
        slots = [self._take_slot(row, each) for each in wanted.match_keys]
        count = sum(study is not None for study in wanted.studies.values())
        highest = chains.change(Chain(), published=count).positions[-1]
        card = replace(wanted.card, highest_position=highest)
        salt = secrets.token_bytes(SALT_BYTES)
        random = secrets.token_bytes(digest.patient_random_bytes(len(slots)))
        body = digest.seal_patient(card, patient_key, slots, salt, random)
        self._publications.append(Publish(EntryId(row.entry_id), salt, body))
        return row

    def _take_slot(self, row: PublishedPatient, match_key: MatchKey) -> Slot:
        tier, slot_type = _TIERS[match_key.tier]
        output = evaluation.output(self._key(tier, row.audience, row.key_epoch), match_key.text)
        chain = publications.slot_chain(self._tx, output, row.audience, row.key_epoch)
        change = chains.change(chain.state, published=1)
        publications.change_chain(self._tx, chain.chain, change, published=row.published)
        self._note_fillers(chain, change.fillers)
        return Slot(output, change.positions[0], slot_type)

    def _key(self, tier: Tier, audience: bytes, epoch: int) -> bytes:
        """Return the key of a tier; made once for all match keys of a patient."""
        which = (tier, audience, epoch)
        if which not in self._keys:
            self._keys[which] = evaluation.evaluation_key(self._master, *which)
        return self._keys[which]

    def _note_fillers(self, chain: SlotChain, positions: Sequence[int]) -> None:
        slots = self._slot_fillers.setdefault((chain.audience, chain.key_epoch), [])
        slots += [Slot(chain.output, position, SlotType.FILLER) for position in positions]

    def mend_slots(self, chain: SlotChain) -> None:
        change = chains.change(chain.state)
        publications.change_chain(self._tx, chain.chain, change)
        self._note_fillers(chain, change.fillers)

    # -- studies ------------------------------------------------------------------------------

    def _studies(self, published: PublishedPatient, wanted: Wanted) -> None:
        """Bring the chain of studies up to date; a study that changed moves to a new position."""
        rows = publications.studies_of(self._tx, published.published)
        held = {row.study_instance_uid: row for row in rows if row.study_instance_uid}
        studies = {uid: study for uid, study in wanted.studies.items() if study is not None}
        hashes = {uid: plain_hash(to_bytes(study)) for uid, study in studies.items()}
        waiting = wanted.studies.keys() - studies.keys()
        gone = [
            row
            for uid, row in held.items()
            if uid not in waiting and row.content_hash != hashes.get(uid)
        ]
        new = [uid for uid in hashes if uid not in held or held[uid].content_hash != hashes[uid]]
        if not gone and not new:
            return
        change = chains.change(_chain(published, rows), [row.position for row in gone], len(new))
        self._fill(published, change.fillers)
        for row in gone:
            self._withdraw(row.entry_id)
            publications.remove_study(self._tx, row.entry_id)
        for uid, position in zip(new, change.positions, strict=True):
            # Whoever holds the older digest can go on asking with the handle in it.
            known = held[uid].retrieve_handle if uid in held else None
            handle = known or secrets.token_bytes(HANDLE_BYTES)
            row = PublishedStudy(b"", position, uid, handle, hashes[uid])
            self._seal_study(published, row, replace(studies[uid], retrieve_handle=handle))
        publications.move_on(self._tx, published.published, change.after.next_position)

    def mend_studies(self, published: PublishedPatient) -> None:
        rows = publications.studies_of(self._tx, published.published)
        self._fill(published, chains.change(_chain(published, rows)).fillers)

    def _fill(self, published: PublishedPatient, positions: Sequence[int]) -> None:
        for position in positions:
            self._seal_study(published, PublishedStudy(b"", position, None, None, None), None)

    def _seal_study(
        self, published: PublishedPatient, row: PublishedStudy, study: StudyDigest | None
    ) -> None:
        salt = secrets.token_bytes(SALT_BYTES)
        body = digest.seal_study(study, published.patient_key, row.position, salt)
        entry_id = self._add(self._fillers if study is None else self._publications, salt, body)
        publications.add_study(self._tx, published.published, replace(row, entry_id=entry_id))

    # -- entries ------------------------------------------------------------------------------

    def _add(self, to: list[NewEntry], salt: bytes, body: bytes) -> bytes:
        entry_id = EntryId(secrets.token_bytes(ENTRY_ID_BYTES))
        to.append(Publish(entry_id, salt, body))
        return entry_id

    def _withdraw(self, entry_id: bytes) -> None:
        self._withdrawals.append(Withdraw(EntryId(entry_id)))


def _chain(published: PublishedPatient, rows: Sequence[PublishedStudy]) -> Chain:
    return Chain(
        published.next_position,
        frozenset(row.position for row in rows if row.study_instance_uid is not None),
        frozenset(row.position for row in rows if row.study_instance_uid is None),
    )


def _portions(slots: Sequence[Slot]) -> Iterator[Sequence[Slot]]:
    for start in range(0, len(slots), limits.SLOT_BLOCK):
        yield slots[start : start + limits.SLOT_BLOCK]
