"""C-STORE as a user: instances go out as they are stored (PS3.4 annex B).

The library would read an instance and write it anew; here the very bytes are sent, a few fragments
at a time.  Only between the two uncompressed little-endian transfer syntaxes an instance is written
anew, for receivers that take just one of them: no value changes by that.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext, build_context

from peer.dicom.part10 import data_set_in, read_file_meta
from peer.dimse.statuses import CANNOT_SEND

CONTEXTS: Final = 128
"""Most presentation contexts of an association: their ids are odd and have one byte (PS3.8)."""

FRAGMENT_BYTES: Final = 256 * 1024
"""Longest fragment sent, however long a PDU the receiver takes."""

WAITING: Final = 8
"""Fragments that wait for the connection; more would only take memory."""

TURN_S: Final = 0.0005
"""How often it is looked whether the connection has taken some."""

UNCOMPRESSED: Final = frozenset({str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)})
"""Between these an instance may be written anew."""

LOW_PRIORITY: Final = 2
"""PS3.7 section 9.3.1.1."""

_DATA_TRANSFER: Final = "Sta6"
"""PS3.8 table 9.2-2."""

_HEAD_BYTES: Final = 6
"""Of a presentation data value within the maximum length (PS3.8 annex D.1)."""


class Gone(Exception):
    """The association ended, or no answer came in time."""


@dataclass(frozen=True, slots=True)
class Instance:
    """What is to be sent, without its bytes."""

    study_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    length: int


@dataclass(frozen=True, slots=True)
class Originator:
    """Who asked by C-MOVE, and in which message."""

    ae_title: str
    message_id: int


def contexts_for(instances: Iterable[Instance]) -> list[PresentationContext]:
    """Return what to propose so that each instance can go as it is, or written anew."""
    wanted: dict[tuple[str, str], None] = {}
    for each in instances:
        wanted[each.sop_class_uid, each.transfer_syntax_uid] = None
        if each.transfer_syntax_uid in UNCOMPRESSED:
            wanted |= {(each.sop_class_uid, syntax): None for syntax in sorted(UNCOMPRESSED)}
    return [build_context(sop_class, [syntax]) for sop_class, syntax in wanted]


def in_associations(instances: Sequence[Instance]) -> list[list[Instance]]:
    """Return the instances, in their order, in groups of which each fits into an association."""
    groups: list[list[Instance]] = []
    proposed: set[tuple[str, str]] = set()
    for each in instances:
        needed = {(each.sop_class_uid, each.transfer_syntax_uid)}
        if each.transfer_syntax_uid in UNCOMPRESSED:
            needed = {(each.sop_class_uid, syntax) for syntax in UNCOMPRESSED}
        if not groups or len(proposed | needed) > CONTEXTS:
            groups.append([])
            proposed = set()
        proposed |= needed
        groups[-1].append(each)
    return groups


def context_of(
    accepted: Iterable[PresentationContext], instance: Instance
) -> PresentationContext | None:
    """Return the context to send an instance in, None if the receiver takes it in none."""
    possible = [each for each in accepted if each.abstract_syntax == instance.sop_class_uid]
    for each in possible:
        if each.transfer_syntax[0] == instance.transfer_syntax_uid:
            return each
    if instance.transfer_syntax_uid not in UNCOMPRESSED:
        return None
    return next((each for each in possible if each.transfer_syntax[0] in UNCOMPRESSED), None)


def send(
    association: Association,
    context: PresentationContext,
    content: bytes,
    instance: Instance,
    *,
    message_id: int,
    originator: Originator | None = None,
) -> int:
    """Send an instance over an association whose messages nobody else reads; return the status.

    `content` is the instance as a file.  Raises Gone, or Refusal if it must be written anew and
    cannot be read.
    """
    syntax = str(context.transfer_syntax[0])
    if syntax == instance.transfer_syntax_uid:
        body = memoryview(content)[read_file_meta(content)[1] :]
    else:
        body = memoryview(data_set_in(content, syntax))
    request = C_STORE()
    request.MessageID = message_id
    request.AffectedSOPClassUID = instance.sop_class_uid
    request.AffectedSOPInstanceUID = instance.sop_instance_uid
    request.Priority = LOW_PRIORITY
    request.DataSet = BytesIO()  # Says that there is one; it goes by itself below.
    if originator is not None:
        request.MoveOriginatorApplicationEntityTitle = originator.ae_title
        request.MoveOriginatorMessageID = originator.message_id
    context_id = context.context_id or 0
    association.dimse.send_msg(request, context_id)
    _send_fragments(association, context_id, body)
    _, answer = association.dimse.get_msg(block=True)
    if not isinstance(answer, C_STORE) or answer.MessageIDBeingRespondedTo != message_id:
        raise Gone
    return CANNOT_SEND if answer.Status is None else int(answer.Status)


def _send_fragments(association: Association, context_id: int, body: memoryview) -> None:
    most = association.dimse.maximum_pdu_size or FRAGMENT_BYTES
    size = max(1, min(most, FRAGMENT_BYTES) - _HEAD_BYTES)
    for start in range(0, len(body), size):
        wait_for_room(association)
        last = start + size >= len(body)
        fragment = P_DATA()
        fragment.presentation_data_value_list.append(
            (context_id, (b"\x02" if last else b"\x00") + bytes(body[start : start + size]))
        )
        association.dul.send_pdu(fragment)


def wait_for_room(association: Association) -> None:
    """Wait until the connection has taken enough of what is to be sent; raise Gone if it ended."""
    while association.dul.to_provider_queue.qsize() >= WAITING:
        _check(association)
        time.sleep(TURN_S)
    _check(association)


def is_there(association: Association) -> bool:
    """Whether the association can take data.

    That the other side has gone its own flag says only once its thread has looked, which may be the
    one that asks.
    """
    dul = association.dul
    established = bool(association.is_established) and dul.is_alive()
    return established and dul.state_machine.current_state == _DATA_TRANSFER


def _check(association: Association) -> None:
    """Raise Gone unless the association can take data."""
    if not is_there(association):
        raise Gone


def is_stored(status: int) -> bool:
    """Return whether a status of C-STORE says that the receiver has the instance."""
    return status in (0x0000, 0xB000, 0xB006, 0xB007)


def is_warning(status: int) -> bool:
    """Return whether it has it with a remark: coerced, or other elements than it expects."""
    return is_stored(status) and status != 0x0000
