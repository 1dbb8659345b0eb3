"""What a message says of a patient (HL7 v2.5 sections 3.4.2 and 3.4.10)."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from typing import Final

from peer.dicom.header import PatientAttributes
from peer.hl7.message import Segment, Value
from peer.hl7.refused import DUPLICATE_KEY, REQUIRED_FIELD, UNKNOWN_KEY, Refused
from peer.hl7.senders import Sender
from peer.index import Tx, patients
from peer.index.patients import PatientRow
from protocol.identifiers import PatientIdentifier

SEXES: Final = frozenset({"M", "F", "O"})
"""Values of HL7 table 0001 that DICOM has too; the others say nothing."""

PSEUDONYMS: Final = frozenset({"S", "TEST", "NOUSE"})
"""Types of names (HL7 table 0200) by which nobody is found."""

NAME: Final = 256
"""Characters that are kept of one writing of a name; DICOM has 64 for each."""

_PARTS: Final = (1, 2, 3, 5, 4)
"""Components of XPN in the order of DICOM's PN: family, given, middle, prefix, suffix."""

_GROUPS: Final = ("A", "I", "P")
"""Writings of a name (HL7 table 0465), in the order of DICOM: alphabetic, ideographic, phonetic."""

_EIGHT_DIGITS: Final = re.compile(r"[0-9]{8}")
_IN_PN: Final = re.compile(r"[\^=\\]")


def patient_of(pid: Segment, sender: Sender) -> PatientAttributes:
    """Return whom PID is about; the Patient ID is one that the sender may change a patient of.

    Raises Refused if there is none.
    """
    identifiers = sender.identifiers(pid, 3 if pid.values(3) else 2)
    first = owned(identifiers, sender, "PID-3")[0]
    return PatientAttributes(
        issuer=first.issuer,
        patient_id=first.value,
        names=names_of(pid),
        birth_date=_day(pid.text(7)),
        sex=sex if (sex := pid.text(8).upper()) in SEXES else "",
        other_ids=tuple(each for each in identifiers if each != first),
    )


def identifiers_of(said: PatientAttributes) -> list[PatientIdentifier]:
    """Return every identifier of a patient as a message describes them, the Patient ID first."""
    return [PatientIdentifier(said.issuer, said.patient_id), *said.other_ids]


def on_record(tx: Tx, identifiers: Iterable[PatientIdentifier]) -> PatientRow | None:
    """Return whom identifiers of a sender's own name, None if nobody; raise Refused for two."""
    rows = [patients.find(tx, each.issuer, each.value) for each in identifiers]
    found = {row.patient: row for row in rows if row is not None}
    if len(found) > 1:
        raise Refused(
            "AE",
            DUPLICATE_KEY,
            "The identifiers of one patient are those of two on record here. If both are one"
            " person, merge them; if not, correct the message. Then retry.",
        )
    return next(iter(found.values()), None)


def owned(
    identifiers: list[PatientIdentifier], sender: Sender, field: str
) -> list[PatientIdentifier]:
    """Return the identifiers of issuers whose patients the sender may change; raise Refused."""
    if not identifiers:
        raise Refused(
            "AE",
            REQUIRED_FIELD,
            f"There is no patient identifier in {field} (CX-5: MR, PI, PT or none).",
        )
    found = sender.own(identifiers)
    if not found:
        raise Refused(
            "AE",
            UNKNOWN_KEY,
            f"No identifier in {field} is of an assigning authority that this sender is on record"
            " for. Name the issuer of its authority in authorities of this sender, and retry.",
        )
    return found


def names_of(pid: Segment) -> tuple[str, ...]:
    """Return names as DICOM writes them, the first of PID-5 first, then the others and PID-9."""
    written: dict[str, dict[str, str]] = {}
    for number in (5, 9):
        for place, each in enumerate(pid.values(number)):
            kind, group = each.part(7).upper(), each.part(8).upper() or "A"
            if kind in PSEUDONYMS or group not in _GROUPS:
                continue
            # The writings of one name have its type in common; a second of a kind is another name.
            name = f"{number} {kind}"
            if group in written.get(name, {}):
                name += f" {place}"
            if pn := _pn(each):
                written.setdefault(name, {})[group] = pn
    found = (
        "=".join(groups.get(each, "") for each in _GROUPS).rstrip("=")
        for groups in written.values()
    )
    return tuple(dict.fromkeys(found))


def _pn(name: Value) -> str:
    parts = (_IN_PN.sub(" ", name.part(each)).strip() for each in _PARTS)
    return "^".join(parts).rstrip("^")[:NAME]


def _day(text: str) -> str:
    """Return YYYYMMDD of a time stamp that has a day of the calendar, else ''."""
    day = text[:8]
    if not _EIGHT_DIGITS.fullmatch(day):
        return ""
    try:
        dt.date(int(day[:4]), int(day[4:6]), int(day[6:]))
    except ValueError:
        return ""
    return day
