"""Retrieval: how a study passes from its origin to a partner, as the ciphertext it is stored as.

origin
    Gives grants, serves ranges under them, takes receipts.
leave
    A grant from the recipient's side, verified, with its keys and its manifest.
transfer
    The chunks of one manifest on their way into the store.
recipient
    One try at a retrieval; what one leaves behind, the next goes on with.
arriving
    What can be looked at before all of a study is here.
wishes
    What somebody waits for, which is fetched first.
errands
    Each retrieval, tried until it has ended.
parking
    What did not come, until somebody deals with it.
repair
    What the disk has lost of a study that is held, from its origin again.
pace
    How fast, as the operator says.
turns
    Who fetches when; an emergency overtakes the others.
ledger
    How each retrieval ended, and its receipt.
"""

from __future__ import annotations

from peer.retrieve.arriving import Arriving
from peer.retrieve.ledger import Ledger
from peer.retrieve.origin import Origin
from peer.retrieve.retrieve import Retrieve
from peer.retrieve.status import Retrieval

__all__ = ["Arriving", "Ledger", "Origin", "Retrieval", "Retrieve"]
