"""Given and received, partner by partner: from the audit trail, the transfers and the journals.

Nothing is counted beside these, but for the answers to our own searches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from peer.index import Tx, journal, opened, quotas
from peer.index import reciprocity as records
from peer.index.reciprocity import ANSWERED, Offered, Period
from protocol.announcement import CanarySaid
from protocol.grant import VERIFIED, ReceiptBody
from protocol.identifiers import PeerId
from protocol.limits import STATEMENT_BYTES
from protocol.messages import OriginHead
from protocol.quota import QUOTA
from protocol.records import from_bytes

UNANSWERED: Final = frozenset({"timed-out", "faulty", CanarySaid.UNANNOUNCED, CanarySaid.WRONG})
"""Searches that came to nothing without a refusal."""


@dataclass(frozen=True, slots=True)
class Side:
    """What one side gave the other.

    `entries`: live journal entries of the giver that the other holds by its own word, None if
    unknown.  `searches` were answered, `refused` counts refusals of searches and studies by code,
    `studies` and `bytes` were handed over whole.
    """

    entries: int | None = None
    searches: int = 0
    studies: int = 0
    bytes: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return it as the API shows it; the commonest refusal first."""
        codes = sorted(self.refused.items(), key=lambda each: (-each[1], each[0]))
        refused = [{"code": code, "times": times} for code, times in codes]
        return asdict(self) | {"refused": refused}


@dataclass(frozen=True, slots=True)
class Balance:
    """Given to one partner and received from it.

    `offered`: studies of ours by who may find them now.  `opened`: patients of its that were opened
    here, which is all that can be told of whom its entries are for.  `emergencies`: how often it
    broke the glass here.  `unanswered`: searches of ours that it neither answered nor refused.
    """

    given: Side
    received: Side
    offered: Offered
    opened: int = 0
    emergencies: int = 0
    unanswered: int = 0

    def to_json(self) -> dict[str, object]:
        """Return it as the API shows it."""
        return {
            "given": self.given.to_json()
            | {"offered": asdict(self.offered), "emergencies": self.emergencies},
            "received": self.received.to_json()
            | {"opened": self.opened, "unanswered": self.unanswered},
        }


def balance(
    tx: Tx,
    me: PeerId,
    partner: PeerId,
    period: Period,
    *,
    claim: OriginHead | None,
    theirs: int | None,
) -> Balance:
    """Return what the index knows.

    `claim`: what the partner last said that it holds of our journal; `theirs`: how many live
    entries are held of its own.
    """
    done: Counter[tuple[str, str]] = Counter()
    refused: Counter[str] = Counter()
    for each in records.recorded(tx, partner, period):
        done[each.action, each.outcome] += each.times
        # A quota's refusals are on record once a day, and counted.
        if each.action in _REFUSABLE and each.outcome == "refused" and each.code != QUOTA:
            refused[each.code] += each.times
    if over := quotas.refused(tx, partner, period):
        refused[QUOTA] = over
    sent = _sent(tx, partner, period)
    asked = records.asked(tx, partner, period)
    studies, size = records.fetched(tx, partner, period)
    refusals = Counter(records.refused_retrievals(tx, partner, period))
    refusals.update(
        {code: times for code, times in asked.items() if code and code not in UNANSWERED}
    )
    return Balance(
        given=Side(
            entries=journal.live_at(tx, me, claim),
            searches=done["evaluate", "success"],
            studies=len(sent),
            bytes=sum(sent.values()),
            refused=dict(refused),
        ),
        received=Side(
            entries=theirs,
            searches=asked.get(ANSWERED, 0),
            studies=studies,
            bytes=size,
            refused=dict(refusals),
        ),
        offered=records.offered(tx, partner),
        opened=opened.count(tx, partner),
        emergencies=done["break-glass", "success"],
        unanswered=sum(asked.get(code, 0) for code in UNANSWERED),
    )


def _sent(tx: Tx, partner: PeerId, period: Period) -> dict[bytes, int]:
    """Return the bytes of each content that the partner has signed for as a whole, once each."""
    sent: dict[bytes, int] = {}
    for payload, size in records.receipts(tx, partner, period):
        receipt = from_bytes(ReceiptBody, payload, STATEMENT_BYTES)
        if receipt.outcome == VERIFIED:
            sent[receipt.manifest_root] = max(size, sent.get(receipt.manifest_root, 0))
    return sent


_REFUSABLE: Final = frozenset({"evaluate", "grant-refused"})
