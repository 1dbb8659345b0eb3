"""What a sender is told: the acknowledgement of the original mode (HL7 v2.5 section 2.9.2)."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Final

from peer.hl7.message import CONTROL_ID, Delimiters, Segment, escaped
from peer.hl7.refused import SAID, Refused

OURS: Final = Delimiters("|", "^", "~", "\\", "&")

VERSION: Final = "2.5"
"""Of an answer to a message that names none."""

REASON: Final = 250
"""Characters of a reason: ERR-8 has no more."""

CHARACTER_SET: Final = "UNICODE UTF-8"


def answer_to(header: Segment | None, refused: Refused | None, now: int) -> bytes:
    """Return the acknowledgement of the message with this header, None if it has none."""
    told = (lambda _number, _component=1: "") if header is None else header.text
    code = "AA" if refused is None else refused.answer
    number = _own(told(10)[:CONTROL_ID])
    event = f"^{_own(told(9, 2))}^ACK" if told(9, 2) else ""
    lines = [
        _segment(
            "MSH|^~\\&",
            _own(told(5)),
            _own(told(6)),
            _own(told(3)),
            _own(told(4)),
            dt.datetime.fromtimestamp(now, dt.UTC).strftime("%Y%m%d%H%M%S+0000"),
            "",
            f"ACK{event}",
            secrets.token_hex(10),
            _own(told(11)) or "P",
            _own(told(12)) or VERSION,
            *[""] * 5,
            CHARACTER_SET,
        )
    ]
    if refused is None:
        lines.append(_segment("MSA", code, number))
    else:
        reason = _own(refused.reason[:REASON])
        lines.append(_segment("MSA", code, number, reason))
        error = f"{refused.error}^{SAID[refused.error]}^HL70357"
        lines.append(_segment("ERR", "", "", error, "E", "", "", "", reason))
    return "".join(f"{line}\r" for line in lines).encode()


def _segment(*fields: str) -> str:
    return OURS.field.join(fields)


def _own(text: str) -> str:
    return escaped(text, OURS)
