"""What became of an instance that came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Status: TypeAlias = Literal["accepted", "duplicate", "refused"]

CONFLICT: Final = "conflict"
NO_SPACE: Final = "no-space"
DISK_ERROR: Final = "disk-error"
OVERSIZED: Final = "oversized"
OTHER_STUDY: Final = "other-study"
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


def oversized(most: int) -> Outcome:
    """Return the outcome of an instance that has more than `most` bytes."""
    reason = (
        f"The instance has more than {most} bytes, the most that this facility accepts. Ask the "
        "operator to raise ingest.max_instance_bytes."
    )
    return Outcome("refused", OVERSIZED, reason)
