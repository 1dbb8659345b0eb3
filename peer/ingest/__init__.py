"""The only way an instance enters, whoever brought it.

Examine (is it all there, what is it) -> append to the study's pack -> one sync for many instances
-> one transaction for many rows -> acknowledge.  After a kill at any point every acknowledged
instance is there, and every other one is absent or whole.  One that is large is encrypted and
written as it comes, before anybody knows what it is (`Incoming`).
"""

from __future__ import annotations

from peer.ingest.adoption import Adopted, ReceivedStudy
from peer.ingest.arrival import Arrival, examine
from peer.ingest.files import NamedFile
from peer.ingest.incoming import Incoming, Large, Small, Taken
from peer.ingest.ingest import Ingest, Recovered
from peer.ingest.inspection import Beyond, Inspection, Verified
from peer.ingest.memory import Memory, Share
from peer.ingest.outcome import OVERSIZED, Outcome

__all__ = [
    "OVERSIZED",
    "Adopted",
    "Arrival",
    "Beyond",
    "Incoming",
    "Ingest",
    "Inspection",
    "Large",
    "Memory",
    "NamedFile",
    "Outcome",
    "ReceivedStudy",
    "Recovered",
    "Share",
    "Small",
    "Taken",
    "Verified",
    "examine",
]
