"""Why a message is not taken, in the words of HL7 table 0357."""

from __future__ import annotations

from typing import Final, Literal

Code = Literal["AE", "AR"]
"""AE: something is wrong with the content.  AR: with kind, sender or form, or with this node."""

SEGMENT_SEQUENCE: Final = "100"
REQUIRED_FIELD: Final = "101"
DATA_TYPE: Final = "102"
VALUE: Final = "103"
MESSAGE_TYPE: Final = "200"
EVENT: Final = "201"
PROCESSING_ID: Final = "202"
VERSION: Final = "203"
UNKNOWN_KEY: Final = "204"
DUPLICATE_KEY: Final = "205"
INTERNAL: Final = "207"

SAID: Final = {
    SEGMENT_SEQUENCE: "Segment sequence error",
    REQUIRED_FIELD: "Required field missing",
    DATA_TYPE: "Data type error",
    VALUE: "Table value not found",
    MESSAGE_TYPE: "Unsupported message type",
    EVENT: "Unsupported event code",
    PROCESSING_ID: "Unsupported processing id",
    VERSION: "Unsupported version id",
    UNKNOWN_KEY: "Unknown key identifier",
    DUPLICATE_KEY: "Duplicate key identifier",
    INTERNAL: "Application internal error",
}


class Refused(Exception):
    """A message is answered AE or AR.  `reason`: for people, without a patient attribute."""

    def __init__(self, answer: Code, error: str, reason: str) -> None:
        super().__init__(reason)
        self.answer = answer
        self.error = error
        self.reason = reason
