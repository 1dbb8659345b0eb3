"""ADT: patients who come, are described anew, or turn out to be one person (HL7 v2.5 chapter 3)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Final

from peer.dicom.header import PatientAttributes
from peer.hl7.message import Message, Segment
from peer.hl7.people import identifiers_of, on_record, owned, patient_of
from peer.hl7.refused import EVENT, REQUIRED_FIELD, SEGMENT_SEQUENCE, UNKNOWN_KEY, Refused
from peer.hl7.senders import Sender
from peer.index import Tx, patients
from peer.index.patients import PatientRow
from peer.patients import Patients
from peer.search import Prefetch, Question
from protocol.identifiers import PatientIdentifier

ARRIVALS: Final = frozenset({"A01", "A04"})
"""Admitted, or registered as an outpatient: there may soon be images of them."""

DESCRIBED: Final = ARRIVALS | {"A08", "A28", "A31"}
"""Events whose PID describes one patient."""

MERGED: Final = "A40"

OTHER_MERGES: Final = frozenset({"A18", "A30", "A34", "A36", "A39"})
"""Events by which patients are merged in other ways, or were before v2.3.1: none may get lost."""

MERGES: Final = 100
"""Most pairs of one message: each moves studies while nobody else writes; they come one by one."""

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
        elif message.event in OTHER_MERGES:
            said = (
                f"Patients are merged by {MERGED} alone. Have it sent instead, or merge them here."
            )
            raise Refused("AR", EVENT, said)
        elif not message.event:
            raise Refused("AE", REQUIRED_FIELD, "The message has no event (MSH-9.2, EVN-1).")

    def _describe(self, tx: Tx, message: Message, sender: Sender) -> None:
        """Describe a patient anew who is on record; whom nobody has images of is not put there."""
        said = patient_of(message.first("PID"), sender)
        identifiers = identifiers_of(said)
        if (known := on_record(tx, sender.own(identifiers))) is not None:
            self._patients.describe_in(tx, known, said, sender.actor)
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
        if len(pairs) > MERGES:
            raise Refused("AE", SEGMENT_SEQUENCE, f"The message has more than {MERGES} merges.")
        for pid, mrg in pairs:
            self._merge_one(tx, pid, mrg, sender)

    def _merge_one(self, tx: Tx, pid: Segment, mrg: Segment, sender: Sender) -> None:
        said = patient_of(pid, sender)
        leaving = owned(sender.identifiers(mrg, 1), sender, "MRG-1")
        own = sender.own(identifiers_of(said))
        staying = [each for each in own if each not in leaving]
        kept = on_record(tx, staying)
        on_record(tx, [each for each in leaving if not _is(tx, each, kept)])
        for gone in leaving:
            alike = [each for each in staying if each.issuer == gone.issuer]
            if not alike and gone in own:
                continue  # One does not merge with oneself.
            if not alike:
                raise Refused(
                    "AE",
                    UNKNOWN_KEY,
                    "An identifier of MRG-1 has none of the same assigning authority in PID-3.",
                )
            # Whom PID is about may be on record by another of its identifiers.
            kept = on_record(tx, staying)
            candidates = [each for each in (*alike, *staying) if _is(tx, each, kept)]
            into = next(iter(candidates), alike[0])
            self._merge_into(tx, gone, into, said, sender)
        if (known := on_record(tx, own)) is not None:
            self._patients.describe_in(tx, known, said, sender.actor)

    def _merge_into(
        self,
        tx: Tx,
        gone: PatientIdentifier,
        into: PatientIdentifier,
        said: PatientAttributes,
        sender: Sender,
    ) -> None:
        rows = [patients.find(tx, each.issuer, each.value) for each in (gone, into)]
        if rows == [None, None]:
            return  # Nobody here is concerned.
        if rows[1] is None:
            patients.add(tx, _under(into, said), into.issuer)
        if rows[0] is None:
            # Images may yet come under the identifier that is no longer used.
            patients.add(tx, _under(gone, NOBODY), gone.issuer)
        if not _is(tx, gone, patients.find(tx, into.issuer, into.value)):
            self._patients.merge_in(tx, gone, into, sender.actor, REASON.format(sender.name))


def _is(tx: Tx, identifier: PatientIdentifier, known: PatientRow | None) -> bool:
    found = patients.find(tx, identifier.issuer, identifier.value)
    return found is not None and known is not None and found.patient == known.patient


def _under(identifier: PatientIdentifier, said: PatientAttributes) -> PatientAttributes:
    return replace(said, issuer=identifier.issuer, patient_id=identifier.value, other_ids=())
