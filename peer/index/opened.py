"""Partners' patients that were opened before, with the keys that open them again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from peer.index.migrate import Tx
from protocol.digest import PatientCard
from protocol.identifiers import EntryId, PeerId
from protocol.limits import DIGEST_BYTES
from protocol.matching import dates, identifiers
from protocol.matching.keys import Demographics
from protocol.person_links import facility_of, record_ref
from protocol.records import from_bytes, to_bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """A partner's patient whose card is open to us."""

    origin: PeerId
    entry_id: EntryId
    patient_key: bytes
    card: PatientCard

    @property
    def person(self) -> Demographics:
        """The card as a description to be matched."""
        card = self.card
        return Demographics(card.names, card.birth_date, card.sex, card.identifiers)

    @property
    def ref(self) -> bytes:
        """The record's name in a link (`protocol.person_links`)."""
        return record_ref(self.origin, self.entry_id)


def remember(tx: Tx, opened: Opened, studies: Iterable[str], now: int) -> int:
    """Keep a patient's key and which studies it opens, in addition to known ones.

    Return the number under which they are kept.
    """
    row = tx.execute(
        "INSERT INTO opened_patients"
        " (origin, entry_id, patient_key, card, birth_date, opened_at) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (origin, entry_id) DO UPDATE SET opened_at = opened_at RETURNING opened",
        (
            opened.origin,
            opened.entry_id,
            opened.patient_key,
            to_bytes(opened.card),
            _match_form(opened.card.birth_date),
            now,
        ),
    ).fetchone()
    number = row["opened"]
    tx.executemany(
        "INSERT OR IGNORE INTO opened_identifiers VALUES (?, ?, ?)",
        [
            (each.issuer, each.value, number)
            for each in identifiers.normalised(opened.card.identifiers)
        ],
    )
    tx.executemany(
        "INSERT OR IGNORE INTO opened_studies VALUES (?, ?)", [(number, uid) for uid in studies]
    )
    return int(number)


def not_listed(tx: Tx, opened: Opened, studies: Iterable[str]) -> list[str]:
    """Return which of these studies of a patient no search and no journal has shown before."""
    known = tx.execute(
        "SELECT s.study_instance_uid FROM opened_studies s JOIN opened_patients p USING (opened)"
        " WHERE p.origin = ? AND p.entry_id = ?",
        (opened.origin, opened.entry_id),
    ).fetchall()
    return sorted(set(studies) - {row["study_instance_uid"] for row in known})


def get(tx: Tx, origin: PeerId, entry_id: EntryId) -> Opened | None:
    """Return a patient who was opened before and is not forgotten, or None."""
    row = tx.execute(
        "SELECT * FROM opened_patients WHERE origin = ? AND entry_id = ?", (origin, entry_id)
    ).fetchone()
    return None if row is None else opened_of(row)


def with_ref(tx: Tx, ref: bytes) -> Opened | None:
    """Return the opened patient whom a ref (`protocol.person_links`) names, or None."""
    origin = facility_of(ref)
    return None if origin is None else get(tx, origin, EntryId(ref[len(origin) :]))


def unlist(tx: Tx, ref: bytes) -> None:
    """Forget which studies a search has listed of a patient, and who is told of new ones.

    The next search that lists the patient begins anew.
    """
    origin = facility_of(ref)
    if origin is None:
        return
    row = tx.execute(
        "SELECT opened FROM opened_patients WHERE origin = ? AND entry_id = ?",
        (origin, ref[len(origin) :]),
    ).fetchone()
    if row is not None:
        for table in ("opened_studies", "watched_patients", "new_priors"):
            tx.execute(f"DELETE FROM {table} WHERE opened = ?", (row["opened"],))  # noqa: S608


def like(tx: Tx, person: Demographics) -> list[Opened]:
    """Return the opened patients who share a birth date (or its swap) or an identifier."""
    numbers: dict[int, None] = {}
    if form := _match_form(person.birth_date):
        rows = tx.execute("SELECT opened FROM opened_patients WHERE birth_date = ?", (form,))
        numbers |= dict.fromkeys(row["opened"] for row in rows)
    for each in identifiers.normalised(person.identifiers):
        rows = tx.execute(
            "SELECT opened FROM opened_identifiers WHERE issuer = ? AND value = ?",
            (each.issuer, each.value),
        )
        numbers |= dict.fromkeys(row["opened"] for row in rows)
    return [
        opened_of(tx.execute("SELECT * FROM opened_patients WHERE opened = ?", (one,)).fetchone())
        for one in numbers
    ]


def confirm(tx: Tx, origin: PeerId, entry_id: EntryId, person: bytes) -> None:
    """Note that a patient who is remembered is the person asked for; `person`: its hash (32 B)."""
    tx.execute(
        "INSERT OR IGNORE INTO opened_confirmed"
        " SELECT opened, ? FROM opened_patients WHERE origin = ? AND entry_id = ?",
        (person, origin, entry_id),
    )


def confirmed(tx: Tx, person: bytes) -> list[Opened]:
    """Return the patients whom their origins have confirmed to be the person of that hash."""
    rows = tx.execute(
        "SELECT p.* FROM opened_confirmed c JOIN opened_patients p ON p.opened = c.opened"
        " WHERE c.person = ? ORDER BY p.opened",
        (person,),
    ).fetchall()
    return [opened_of(row) for row in rows]


def with_study(tx: Tx, origin: PeerId, study_instance_uid: str) -> list[Opened]:
    """Return the opened patients of a partner under whom a study was listed."""
    rows = tx.execute(
        "SELECT p.* FROM opened_studies s JOIN opened_patients p ON p.opened = s.opened"
        " WHERE s.study_instance_uid = ? AND p.origin = ? ORDER BY p.opened DESC",
        (study_instance_uid, origin),
    ).fetchall()
    return [opened_of(row) for row in rows]


def forget(tx: Tx, origin: PeerId, entry_ids: Iterable[bytes]) -> int:
    """Forget the patients whose entries are among these; return how many that were."""
    cursor = tx.executemany(
        "DELETE FROM opened_patients WHERE origin = ? AND entry_id = ?",
        [(origin, entry_id) for entry_id in entry_ids],
    )
    return max(cursor.rowcount, 0)


def forget_origin(tx: Tx, origin: PeerId) -> None:
    """Forget everything that was opened of one partner."""
    tx.execute("DELETE FROM opened_patients WHERE origin = ?", (origin,))


def count(tx: Tx, origin: PeerId) -> int:
    """Return how many patients of a partner are open to us."""
    row = tx.execute(
        "SELECT count(*) AS number FROM opened_patients WHERE origin = ?", (origin,)
    ).fetchone()
    return int(row["number"])


def _match_form(birth_date: str) -> str:
    usable = dates.usable(birth_date)
    return dates.match_form(usable) if usable else ""


def opened_of(row: Any) -> Opened:  # noqa: ANN401 - a row of `opened_patients`
    """Return what a row says."""
    return Opened(
        origin=PeerId(row["origin"]),
        entry_id=EntryId(row["entry_id"]),
        patient_key=row["patient_key"],
        card=from_bytes(PatientCard, row["card"], DIGEST_BYTES),
    )
