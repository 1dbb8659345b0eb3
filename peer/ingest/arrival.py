"""An instance on its way in, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from peer.actors import Actor
from peer.config import Ingest as Settings
from peer.dicom import NOTES, Header, read_header
from protocol.errors import Refusal
from protocol.hashing import plain_hash

Content: TypeAlias = bytes | memoryview
"""The bytes of one instance; they must not change any more."""

Status: TypeAlias = Literal["accepted", "duplicate", "refused"]

CONFLICT: Final = "conflict"
NO_SPACE: Final = "no-space"
DISK_ERROR: Final = "disk-error"
OVERSIZED: Final = "oversized"
UID_MISMATCH: Final = "uid-mismatch"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one instance; `reason` is a sentence without patient attributes.

    One that was accepted has a code and a reason if it was kept in spite of something.
    """

    status: Status
    code: str = ""
    reason: str = ""
    sop_instance_uid: str = ""
    study_instance_uid: str = ""
    sop_class_uid: str = ""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An instance that was examined and may be stored."""

    data: Content
    header: Header
    content_hash: bytes
    data_set_hash: bytes
    actor: Actor
    source: str

    @property
    def sop_instance_uid(self) -> str:
        """Its SOP Instance UID."""
        return self.header.instance.sop_instance_uid

    @property
    def study_instance_uid(self) -> str:
        """The Study Instance UID of its study."""
        return self.header.study.study_instance_uid

    def outcome(self, status: Status, code: str = "", reason: str = "") -> Outcome:
        """Return what became of it."""
        return Outcome(
            status,
            code,
            reason,
            self.sop_instance_uid,
            self.study_instance_uid,
            self.header.instance.sop_class_uid,
        )

    def accepted(self) -> Outcome:
        """Return that it is kept, and what was odd about it."""
        notes = self.header.notes
        reason = " ".join(NOTES[note] for note in notes)
        return self.outcome("accepted", notes[0] if notes else "", reason)


def examine(
    data: Content, actor: Actor, source: str, settings: Settings, named: str = ""
) -> Arrival:
    """Return the instance in `data`, hashed and with its header read.

    Raises Refusal with the codes of `peer.dicom.read_header`, "oversized" above
    `max_instance_bytes`, and "uid-mismatch" if the sender announced another SOP Instance UID
    (`named`).
    """
    limit = settings.max_instance_bytes
    if len(data) > limit:
        raise Refusal(
            OVERSIZED,
            f"The instance has {len(data)} bytes; this facility accepts at most {limit}.",
            "Ask the operator to raise ingest.max_instance_bytes.",
        )
    header = read_header(data, settings.max_inflated_bytes)
    if named and named != header.instance.sop_instance_uid:
        raise Refusal(
            UID_MISMATCH,
            "The data set has another SOP Instance UID than the request.",
            "Check the software that sent it.",
        )
    data_set = memoryview(data)[header.data_set_offset :]
    return Arrival(data, header, plain_hash(data), plain_hash(data_set), actor, source)
