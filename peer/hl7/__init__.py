"""HL7 version 2 over MLLP: what a RIS or HIS tells of patients.

message
    Segments parted by carriage returns, the first of them MSH (HL7 v2.5 chapter 2).
sender
    A system in the table of the settings, known by the address it calls from, MSH-3 and MSH-4.
control ID
    MSH-10: the sender's own number of a message.
taken
    Answered AA: what it says is durable here.  A message that was taken is known again.
refused
    Answered AE or AR, with the reason.
parked
    Refused, and kept until somebody tries it again or discards it.

Message bytes are split here, not by a library: the ones there are build the whole tree of whatever
comes, and let an escape sequence ask for a gigabyte (decision 66).
"""

from __future__ import annotations

from peer.hl7.inbox import Hl7
from peer.hl7.listener import Hl7Listener

__all__ = ["Hl7", "Hl7Listener"]
