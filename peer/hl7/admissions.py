"""ADT: patients who come, are described anew, or turn out to be one person (HL7 v2.5 chapter 3)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Final

from peer.dicom.header import PatientAttributes
from peer.hl7.message import Message, Segment
from peer.hl7.people import owned, patient_of
from peer.hl7.refused import SEGMENT_SEQUENCE, Refused
from peer.hl7.senders import Sender
from peer.index import Tx, patients
from peer.patients import Patients
from peer.search import Prefetch, Question
from protocol.identifiers import PatientIdentifier

ARRIVALS: Final = frozenset({"A01", "A04"})
"""Admitted, or registered as an outpatient: there may soon be images of them."""

DESCRIBED: Final = ARRIVALS | {"A08", "A28", "A31"}
"""Events whose PID describes one patient."""

MERGED: Final = "A40"

NOBODY: Final = PatientAttributes("", "", (), "", "", ())

REASON: Final = "ADT A40 of {}"
"""Why patients were merged, as it goes on record."""


class Admissions:
    """Does what ADT messages say, in the caller's transaction."""

    def __init__(self, patients_room: Patients, prefetch: Prefetch) -> None:
        self._patients = patients_room
        self._prefetch = prefetch

    def take(self, tx: Tx, message: Message, sender: Sender) -> None:
        """Do what a message says; raise Refused.  Other events of ADT are none of ours."""
        if message.event in DESCRIBED:
            self._describe(tx, message, sender)
        elif message.event == MERGED:
            self._merge(tx, message, sender)

    def _describe(self, tx: Tx, message: Message, sender: Sender) -> None:
        """Describe a patient anew who is on record; whom nobody has images of is not put there."""
        said = patient_of(message.first("PID"), sender)
        identifiers = [PatientIdentifier(said.issuer, said.patient_id), *said.other_ids]
        for each in sender.own(identifiers):
            if (known := patients.find(tx, each.issuer, each.value)) is not None:
                self._patients.describe_in(tx, known, said, sender.actor)
                break
        if message.event in ARRIVALS and sender.settings.expect:
            name = next(iter(said.names), "")
            question = Question(name, said.birth_date, said.sex, tuple(identifiers))
            if question.narrows:
                self._prefetch.add_in(tx, [question], sender.actor)

    def _merge(self, tx: Tx, message: Message, sender: Sender) -> None:
        """Merge the patients of MRG into those of the PID before it, each pair by itself."""
        pairs = [
            (one, other)
            for one, other in pairwise(message.all("PID", "MRG"))
            if (one.name, other.name) == ("PID", "MRG")
        ]
        if not pairs:
            raise Refused("AE", SEGMENT_SEQUENCE, "The message has no MRG segment behind a PID.")
        for pid, mrg in pairs:
            self._merge_one(tx, pid, mrg, sender)

    def _merge_one(self, tx: Tx, pid: Segment, mrg: Segment, sender: Sender) -> None:
        said = patient_of(pid, sender)
        staying = sender.own([PatientIdentifier(said.issuer, said.patient_id), *said.other_ids])
        for gone in owned(sender.identifiers(mrg, 1), sender, "MRG-1"):
            into = next((each for each in staying if each.issuer == gone.issuer), staying[0])
            rows = [patients.find(tx, each.issuer, each.value) for each in (gone, into)]
            if gone == into or rows == [None, None]:
                continue  # Nobody here is concerned.
            if rows[1] is None:
                patients.add(tx, _under(into, said), into.issuer)
            if rows[0] is None:
                # Images may yet come under the identifier that is no longer used.
                patients.add(tx, _under(gone, NOBODY), gone.issuer)
            old, new = (patients.find(tx, each.issuer, each.value) for each in (gone, into))
            if old is None or new is None or old.patient == new.patient:
                continue
            self._patients.merge_in(tx, gone, into, sender.actor, REASON.format(sender.name))
        known = patients.find(tx, said.issuer, said.patient_id)
        if known is not None:
            self._patients.describe_in(tx, known, said, sender.actor)


def _under(identifier: PatientIdentifier, said: PatientAttributes) -> PatientAttributes:
    return replace(said, issuer=identifier.issuer, patient_id=identifier.value, other_ids=())
