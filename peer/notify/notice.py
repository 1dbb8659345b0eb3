"""A notice as pages, commands and the API show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from peer.index.notices import Received, Sent
from protocol.identifiers import PeerId
from protocol.notice import NoticeContent


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice that was sent or received.  Instants are Unix seconds.

    `delivered_at`: when it was on the disk of the addressee's node.  `acknowledged_by`: a name
    here, or the partner's pseudonym for someone there.  `acknowledgement_delivered`: whether the
    sender of a received notice knows.  `refusal`: why a sent one will not be delivered, or ''.
    """

    notice_id: bytes
    peer_id: PeerId
    name: str
    direction: Literal["sent", "received"]
    content: NoticeContent
    sent_at: int
    delivered_at: int | None
    acknowledged_at: int | None
    acknowledged_by: str
    acknowledgement_delivered: bool
    refusal: str = ""

    def to_json(self) -> dict[str, object]:
        """Return it as the API shows it."""
        content = self.content
        return {
            "notice_id": self.notice_id.hex(),
            "peer_id": self.peer_id.hex(),
            "name": self.name,
            "direction": self.direction,
            "patient": {
                "name": content.patient_name,
                "birth_date": content.birth_date,
                "sex": content.sex,
            },
            "study_instance_uids": [study.study_instance_uid for study in content.studies],
            "studies": [
                {
                    "study_instance_uid": study.study_instance_uid,
                    "study_date": study.study_date,
                    "modalities": study.modalities.split("\\") if study.modalities else [],
                    "description": study.description,
                }
                for study in content.studies
            ],
            "message": content.text,
            "sent_at": self.sent_at,
            "delivered_at": self.delivered_at,
            "acknowledged_at": self.acknowledged_at,
            "acknowledged_by": self.acknowledged_by,
            "acknowledgement_delivered": self.acknowledgement_delivered,
            "refusal": self.refusal,
        }


def sent_notice(row: Sent, name: str) -> Notice:
    """Return a notice of the outbox."""
    return Notice(
        notice_id=row.notice_id,
        peer_id=row.partner,
        name=name,
        direction="sent",
        content=row.content,
        sent_at=row.sent_at,
        delivered_at=row.delivered_at,
        acknowledged_at=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by,
        acknowledgement_delivered=row.acknowledged_at is not None,
        refusal=row.refusal,
    )


def received_notice(row: Received, name: str) -> Notice:
    """Return a notice of the inbox."""
    return Notice(
        notice_id=row.notice_id,
        peer_id=row.partner,
        name=name,
        direction="received",
        content=row.content,
        sent_at=row.sent_at,
        delivered_at=row.received_at,
        acknowledged_at=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by,
        acknowledgement_delivered=row.acknowledgement_delivered_at is not None,
    )
