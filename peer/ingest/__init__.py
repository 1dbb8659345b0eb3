"""The only way an instance enters, whoever brought it.

Examine (is it all there, what is it) -> append to the study's pack -> one sync for many instances
-> one transaction for many rows -> acknowledge.  After a kill at any point every acknowledged
instance is there, and every other one is absent or whole.
"""

from __future__ import annotations

from peer.ingest.adoption import Adopted, ReceivedStudy
from peer.ingest.arrival import Arrival, Outcome, examine
from peer.ingest.ingest import Ingest, Recovered
from peer.ingest.memory import Memory, Share

__all__ = [
    "Adopted",
    "Arrival",
    "Ingest",
    "Memory",
    "Outcome",
    "ReceivedStudy",
    "Recovered",
    "Share",
    "examine",
]
