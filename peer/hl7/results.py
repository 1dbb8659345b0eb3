"""ORU: final reports, looked through for the sentences of the report (HL7 v2.5 chapter 7).

Of the text nothing is kept but which sentences it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from peer import audit
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.hl7.message import Message, Segment
from peer.hl7.people import identifiers_of, on_record, patient_of
from peer.hl7.refused import REQUIRED_FIELD, SEGMENT_SEQUENCE, Refused
from peer.hl7.senders import Sender, bounded
from peer.index import Tx, final_reports
from peer.index.final_reports import FinalReport
from peer.report import claims_of
from protocol.identifiers import is_uid

CODE: Final = "ORU"

FINAL: Final = frozenset({"F", "C"})
"""Values of OBR-25 (HL7 table 0123) of a report that stands: final, or corrected."""

TEXTS: Final = frozenset({"TX", "FT", "ST"})
"""Values of OBX-2 of what is text."""

VOID: Final = frozenset({"D", "W", "X"})
"""Values of OBX-11 (HL7 table 0085) of what does not hold: deleted, wrong, not obtained."""

STUDY: Final = "113014"
"""OBX-3 of a Study Instance UID: DICOM Study (PS3.16 DCM)."""

REPORTS: Final = 100
"""Most reports of one message: each is of an examination of one patient."""


@dataclass(frozen=True, slots=True)
class Result:
    """One final report as it was sent.  `number`: the filler's, or the placer's."""

    number: str
    status: str
    study_instance_uids: tuple[str, ...]
    accessions: tuple[str, ...]
    text: str


class Results:
    """Keeps which sentences final reports have, in the caller's transaction."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def take(self, tx: Tx, message: Message, sender: Sender) -> None:
        """Take the final reports of a message; what is preliminary is left alone."""
        said = patient_of(message.first("PID"), sender)
        # Of another issuer's patients this sender says nothing.
        identifiers = tuple(sender.own(identifiers_of(said)))
        known = on_record(tx, identifiers)
        for result in results_of(message):
            claims = claims_of(result.text)
            report = FinalReport(
                sender.name,
                result.number,
                result.status,
                identifiers,
                claims.available,
                claims.searched,
                self._clock.now(),
            )
            final_reports.put(tx, report, result.study_instance_uids, result.accessions)
            event = AuditEvent(
                "report",
                "success",
                sender.actor,
                patient="" if known is None else str(known.patient),
                detail={
                    "final_report": result.number,
                    "says_available": int(claims.available),
                    "says_searched": int(claims.searched),
                },
            )
            audit.append(tx, event, self._clock.now())


def results_of(message: Message) -> list[Result]:
    """Return the final reports of a message; raise Refused for what is no result."""
    groups = list(_groups(message))
    if not groups or len(groups) > REPORTS:
        said = f"The message has no OBR segment, or more than {REPORTS}."
        raise Refused("AE", SEGMENT_SEQUENCE, said)
    found = [_result(group) for group in groups if _first(group, "OBR").text(25) in FINAL]
    if not all(each.number for each in found):
        said = "A final report has no number (OBR-3, OBR-2, ORC-3, ORC-2)."
        raise Refused("AE", REQUIRED_FIELD, said)
    return found


def _groups(message: Message) -> Iterator[list[Segment]]:
    """Yield each OBR with the ORC before it, and what follows until the next."""
    order: list[Segment] = []
    group: list[Segment] = []
    for each in message.all("ORC", "OBR", "OBX", "IPC", "ZDS"):
        if each.name in {"ORC", "OBR"} and group:
            yield group
            group = []
        if each.name == "ORC":
            order = [each]
        elif each.name == "OBR":
            group = [each, *order]
            order = []
        elif group:
            group.append(each)
    if group:
        yield group


def _result(group: Sequence[Segment]) -> Result:
    obr = _first(group, "OBR")
    observed = [each for each in group if each.name == "OBX" and each.text(11) not in VOID]
    uids = [each.text(5) for each in observed if each.text(3) == STUDY]
    uids += [each.text(1) for each in group if each.name == "ZDS"]
    uids += [each.text(3) for each in group if each.name == "IPC"]
    numbers = [
        bounded(each.text(field))
        for name in ("OBR", "ORC")
        for each in group
        if each.name == name
        for field in (3, 2)
    ]
    accessions = [bounded(each.text(1)) for each in group if each.name == "IPC"]
    accessions += [bounded(obr.text(18)), *numbers]
    return Result(
        number=next((each for each in numbers if each), ""),
        status=obr.text(25),
        study_instance_uids=tuple(dict.fromkeys(each for each in uids if is_uid(each))),
        accessions=tuple(dict.fromkeys(each for each in accessions if each)),
        text="\n".join(
            value.lines
            for each in observed
            if each.text(2) in TEXTS and each.text(3) != STUDY
            for value in each.values(5)
        ),
    )


def _first(group: Sequence[Segment], name: str) -> Segment:
    return next(each for each in group if each.name == name)
