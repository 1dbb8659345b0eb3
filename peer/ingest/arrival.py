"""An instance on its way in, all of it there and examined."""

from __future__ import annotations

from dataclasses import dataclass

from peer.actors import Actor
from peer.config import Ingest as Settings
from peer.dicom import NOTES, Header, read_header
from peer.ingest.incoming import Large, Small
from peer.ingest.outcome import OVERSIZED, UID_MISMATCH, Outcome, Status
from protocol.errors import Refusal
from protocol.hashing import plain_hash


@dataclass(frozen=True, slots=True)
class Arrival:
    """An instance that was examined and may be stored."""

    data: Small | Large
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
    data: Small | Large, actor: Actor, source: str, settings: Settings, named: str = ""
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
    if isinstance(data, Large):
        with data.open() as content:
            header = read_header(content, settings.max_inflated_bytes)
        whole, data_set = data.content_hash, data.data_set_hash
    else:
        header = read_header(data, settings.max_inflated_bytes)
        whole, data_set = plain_hash(data), plain_hash(memoryview(data)[header.data_set_offset :])
    if named and named != header.instance.sop_instance_uid:
        raise Refusal(
            UID_MISMATCH,
            "The data set has another SOP Instance UID than the request.",
            "Check the software that sent it.",
        )
    return Arrival(data, header, whole, data_set, actor, source)
