"""The patients this facility knows itself, matched by the same rules as those of partners."""

from __future__ import annotations

from collections.abc import Iterable

from peer.index import patients
from peer.index.database import Tx
from peer.index.patients import PatientRow
from protocol.identifiers import PatientIdentifier, PeerId
from protocol.matching import dates
from protocol.matching.keys import Demographics
from protocol.person_links import own_patient

_OID: str = "urn:oid:"


def candidates(tx: Tx, person: Demographics) -> list[PatientRow]:
    """Return the patients who share a birth date (or its day/month swap) or the Patient ID."""
    found: dict[int, PatientRow] = {}
    for birth_date in _as_written(dates.usable(person.birth_date)):
        found |= {row.patient: row for row in patients.with_birth_date(tx, birth_date)}
    for identifier in person.identifiers:
        for issuer in _spellings(identifier):
            row = patients.find(tx, issuer, identifier.value)
            if row is not None:
                found[row.patient] = row
    return list(found.values())


def candidates_and(
    tx: Tx, person: Demographics, me: PeerId, refs: Iterable[bytes]
) -> list[PatientRow]:
    """Return the candidates and the patients whom refs name (`protocol.person_links`)."""
    found = {row.patient: row for row in candidates(tx, person)}
    for ref in refs:
        if (number := own_patient(me, ref)) is not None:
            row = patients.get(tx, number)
            found |= {} if row is None else {row.patient: row}
    return list(found.values())


def person_of(row: PatientRow) -> Demographics:
    """Return a patient as a description to be matched."""
    return Demographics(row.names, row.birth_date, row.sex, row.identifiers)


def _as_written(usable: str) -> set[str]:
    if not usable:
        return set()
    return {usable, usable[:4] + usable[6:] + usable[4:6]}


def _spellings(identifier: PatientIdentifier) -> set[str]:
    """Return the issuer as an OID with and without its URN; both are written in the wild."""
    issuer = identifier.issuer
    return {issuer, issuer.removeprefix(_OID), _OID + issuer.removeprefix(_OID)}
