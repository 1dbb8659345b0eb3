"""What our journal says at present of whom, and the counters that must never run backwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from peer.index.migrate import Tx
from protocol.chains import Chain, Change


@dataclass(frozen=True, slots=True)
class PublishedPatient:
    """A patient as published to one audience (b"": every partner; else the PeerId of the one)."""

    published: int
    patient: int
    audience: bytes
    key_epoch: int
    patient_key: bytes
    entry_id: bytes
    content_hash: bytes
    next_position: int


@dataclass(frozen=True, slots=True)
class PublishedStudy:
    """A study in the chain of a published patient; without a UID it is a filler."""

    entry_id: bytes
    position: int
    study_instance_uid: str | None
    retrieve_handle: bytes | None
    content_hash: bytes | None


@dataclass(frozen=True, slots=True)
class SlotChain:
    """The chain of one match key, by the key's output (64 B)."""

    chain: int
    output: bytes
    audience: bytes
    key_epoch: int
    state: Chain


def is_anything(tx: Tx) -> bool:
    """Return whether anything is published to anybody."""
    return tx.execute("SELECT 1 FROM published_patients LIMIT 1").fetchone() is not None


# -- patients ---------------------------------------------------------------------------------


def of_patient(tx: Tx, patient: int) -> dict[bytes, PublishedPatient]:
    """Return how a patient is published, by audience."""
    rows = tx.execute("SELECT * FROM published_patients WHERE patient = ?", (patient,)).fetchall()
    found = (PublishedPatient(**dict(row)) for row in rows)
    return {each.audience: each for each in found}


def with_entry(tx: Tx, entry_id: bytes) -> PublishedPatient | None:
    """Return the patient who is published under an entry, or None."""
    row = tx.execute("SELECT * FROM published_patients WHERE entry_id = ?", (entry_id,)).fetchone()
    return None if row is None else PublishedPatient(**dict(row))


def get(tx: Tx, published: int) -> PublishedPatient | None:
    """Return a patient's publication by its number, or None."""
    row = tx.execute(
        "SELECT * FROM published_patients WHERE published = ?", (published,)
    ).fetchone()
    return None if row is None else PublishedPatient(**dict(row))


def patients(tx: Tx) -> list[int]:
    """Return every patient of whom anything is published."""
    rows = tx.execute("SELECT DISTINCT patient FROM published_patients ORDER BY patient").fetchall()
    return [row["patient"] for row in rows]


def with_own_studies(tx: Tx) -> list[int]:
    """Return every patient with a study of our own that has a manifest."""
    rows = tx.execute(
        "SELECT DISTINCT patient FROM studies WHERE origin IS NULL AND manifest_version > 0"
    ).fetchall()
    return [row["patient"] for row in rows]


def add_patient(tx: Tx, row: PublishedPatient) -> int:
    """Record a patient's publication and return its number; `row.published` is not read."""
    cursor = tx.execute(
        "INSERT INTO published_patients (patient, audience, key_epoch, patient_key, entry_id,"
        " content_hash, next_position) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            row.patient,
            row.audience,
            row.key_epoch,
            row.patient_key,
            row.entry_id,
            row.content_hash,
            row.next_position,
        ),
    )
    return int(cursor.lastrowid or 0)


def renew(tx: Tx, patient: int) -> None:
    """Let whatever is published of a patient be replaced: new keys, new counters, new entries."""
    tx.execute("UPDATE published_patients SET content_hash = x'' WHERE patient = ?", (patient,))


def remove_patient(tx: Tx, published: int) -> None:
    """Forget a patient's publication with its studies; its slots are released one by one before."""
    tx.execute("DELETE FROM published_patients WHERE published = ?", (published,))


# -- studies ----------------------------------------------------------------------------------


def studies_of(tx: Tx, published: int) -> list[PublishedStudy]:
    """Return the chain of studies of a published patient, fillers too, by position."""
    rows = tx.execute(
        "SELECT entry_id, position, study_instance_uid, retrieve_handle, content_hash"
        " FROM published_studies WHERE published = ? ORDER BY position",
        (published,),
    ).fetchall()
    return [PublishedStudy(**dict(row)) for row in rows]


def add_study(tx: Tx, published: int, row: PublishedStudy) -> None:
    """Record that a study, or a filler, stands in the chain of a published patient."""
    tx.execute(
        "INSERT INTO published_studies VALUES (?, ?, ?, ?, ?, ?)",
        (
            row.entry_id,
            published,
            row.position,
            row.study_instance_uid,
            row.retrieve_handle,
            row.content_hash,
        ),
    )
    if row.retrieve_handle is not None:
        tx.execute(
            "INSERT OR IGNORE INTO retrieve_handles VALUES (?, ?)",
            (row.retrieve_handle, row.study_instance_uid),
        )


def remove_study(tx: Tx, entry_id: bytes) -> None:
    """Forget a withdrawn study."""
    tx.execute("DELETE FROM published_studies WHERE entry_id = ?", (entry_id,))


def move_on(tx: Tx, published: int, next_position: int) -> None:
    """Record the next position of a patient's chain of studies."""
    tx.execute(
        "UPDATE published_patients SET next_position = ? WHERE published = ?",
        (next_position, published),
    )


def behind(tx: Tx, retrieve_handle: bytes) -> str | None:
    """Return the study that a handle stands for, published now or once, or None."""
    row = tx.execute(
        "SELECT study_instance_uid FROM retrieve_handles WHERE retrieve_handle = ?",
        (retrieve_handle,),
    ).fetchone()
    return None if row is None else str(row["study_instance_uid"])


def audiences_of(tx: Tx, study_instance_uid: str) -> list[bytes]:
    """Return to which audiences a study is published."""
    rows = tx.execute(
        "SELECT p.audience FROM published_studies s"
        " JOIN published_patients p ON p.published = s.published"
        " WHERE s.study_instance_uid = ? ORDER BY p.audience",
        (study_instance_uid,),
    ).fetchall()
    return [row["audience"] for row in rows]


def studies_for(tx: Tx, audience: bytes) -> Iterator[str]:
    """Yield the studies that are published to an audience."""
    rows = tx.execute(
        "SELECT s.study_instance_uid FROM published_patients p"
        " JOIN published_studies s ON s.published = p.published"
        " WHERE p.audience = ? AND s.study_instance_uid IS NOT NULL",
        (audience,),
    )
    return (row["study_instance_uid"] for row in rows)


def patients_with(tx: Tx, study_instance_uid: str) -> list[int]:
    """Return the patients under whom a study is published; more than one after a split alone."""
    rows = tx.execute(
        "SELECT DISTINCT p.patient FROM published_studies s"
        " JOIN published_patients p ON p.published = s.published"
        " WHERE s.study_instance_uid = ? ORDER BY p.patient",
        (study_instance_uid,),
    ).fetchall()
    return [row["patient"] for row in rows]


# -- chains of match keys ---------------------------------------------------------------------


def slot_chain(tx: Tx, output: bytes, audience: bytes, epoch: int) -> SlotChain:
    """Return the chain of a match key, begun if this is its first record."""
    begun = tx.execute(
        "INSERT INTO slot_chains (output, audience, key_epoch, next_position)"
        " VALUES (?, ?, ?, 0) ON CONFLICT (output) DO NOTHING RETURNING chain",
        (output, audience, epoch),
    ).fetchone()
    if begun is not None:
        return SlotChain(begun["chain"], output, audience, epoch, Chain())
    row = tx.execute("SELECT * FROM slot_chains WHERE output = ?", (output,)).fetchone()
    return _chain(tx, row)


def chain(tx: Tx, number: int) -> SlotChain | None:
    """Return the chain of a match key by its number, or None."""
    row = tx.execute("SELECT * FROM slot_chains WHERE chain = ?", (number,)).fetchone()
    return None if row is None else _chain(tx, row)


def slots_of(tx: Tx, published: int) -> list[tuple[SlotChain, int]]:
    """Return the chains, each with the position, in which a published patient has a slot."""
    rows = tx.execute(
        "SELECT c.*, s.position FROM slots s JOIN slot_chains c ON c.chain = s.chain"
        " WHERE s.published = ? ORDER BY c.chain",
        (published,),
    ).fetchall()
    return [(_chain(tx, row), row["position"]) for row in rows]


def _chain(tx: Tx, row: Any) -> SlotChain:  # noqa: ANN401 - a row of `slot_chains`
    slots = tx.execute(
        "SELECT position, published FROM slots WHERE chain = ?", (row["chain"],)
    ).fetchall()
    return SlotChain(
        chain=row["chain"],
        output=row["output"],
        audience=row["audience"],
        key_epoch=row["key_epoch"],
        state=Chain(
            next_position=row["next_position"],
            live=frozenset(s["position"] for s in slots if s["published"] is not None),
            fillers=frozenset(s["position"] for s in slots if s["published"] is None),
        ),
    )


def change_chain(
    tx: Tx, chain: int, change: Change, withdrawn: Iterable[int] = (), published: int | None = None
) -> None:
    """Record a change of a match key's chain; `published` is the patient at the new positions."""
    for position in withdrawn:
        tx.execute("DELETE FROM slots WHERE chain = ? AND position = ?", (chain, position))
    for positions, whose in ((change.fillers, None), (change.positions, published)):
        for position in positions:
            tx.execute("INSERT INTO slots VALUES (?, ?, ?)", (chain, position, whose))
    tx.execute(
        "UPDATE slot_chains SET next_position = ? WHERE chain = ?",
        (change.after.next_position, chain),
    )


def add_filler_entry(tx: Tx, entry_id: bytes, audience: bytes, epoch: int) -> None:
    """Record an entry that holds filler slots only."""
    tx.execute("INSERT INTO slot_filler_entries VALUES (?, ?, ?)", (entry_id, audience, epoch))


# -- what time will change --------------------------------------------------------------------


def schedule(tx: Tx, patient: int, due_at: int | None) -> None:
    """Say when a patient must be looked at again; None: not before something happens."""
    if due_at is None:
        tx.execute("DELETE FROM publication_reviews WHERE patient = ?", (patient,))
    else:
        tx.execute(
            "INSERT INTO publication_reviews VALUES (?, ?)"
            " ON CONFLICT (patient) DO UPDATE SET due_at = excluded.due_at",
            (patient, due_at),
        )


def due(tx: Tx, now: int) -> list[int]:
    """Return the patients who must be looked at by now."""
    rows = tx.execute(
        "SELECT patient FROM deferred_publications"
        " UNION SELECT patient FROM publication_reviews WHERE due_at <= ? ORDER BY patient",
        (now,),
    ).fetchall()
    return [row["patient"] for row in rows]
