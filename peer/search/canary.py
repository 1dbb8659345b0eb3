"""Whether partners answer searches with the keys that they announce (`protocol.announcement`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from peer import audit
from peer.actors import NODE
from peer.alerts import wrong_key
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.index import Database, Tx, labels
from peer.index.held import Held
from peer.logs import Seldom
from peer.search.answer import Facility, Uncovered
from peer.search.asking import Asked
from protocol.announcement import LABEL, CanarySaid, KeyAnnouncement, judge, read_announcement
from protocol.errors import Malformed
from protocol.identifiers import PeerId

_REASONS: Final = {
    CanarySaid.UNANNOUNCED: "answered with a key that its journal here does not announce (yet)",
    CanarySaid.WRONG: "answered with another key than it announces, so that nothing can be found",
}


class Canary:
    """Takes answers for what they are worth; one made with a wrong key is on record and alerted to.

    The record is made once in `every_s` for each partner.
    """

    def __init__(self, db: Database, partners_db: Database, clock: Clock, every_s: float) -> None:
        self._db = db
        self._partners_db = partners_db
        self._clock = clock
        self._seldom = Seldom(every_s)

    async def verified(self, asked: Sequence[Asked]) -> list[Asked]:
        """Return what was answered, without the answers that open nothing of what is published."""

        def work(tx: Tx) -> list[Asked]:
            return [_verified(tx, each) for each in asked]

        found = await self._partners_db.read(work)
        for each in found:
            if each.code == CanarySaid.WRONG:
                await self._tell(each.partner.peer_id)
        return found

    async def _tell(self, peer_id: PeerId) -> None:
        now = self._clock.now()
        if self._seldom.is_due(peer_id, now):
            await self._db.write(partial(_put_on_record, peer_id=peer_id, now=now))


def _verified(tx: Tx, asked: Asked) -> Asked:
    if asked.canary is None:
        return asked
    origin = asked.partner.peer_id
    said = judge(_announced(tx, origin), *asked.canary)
    if said is CanarySaid.RIGHT:
        return asked
    head = Held(tx, origin).head()
    if said is CanarySaid.UNANNOUNCED and (head is None or not head.live_count):
        return asked  # Whoever publishes nothing need not announce how to find it.
    facility = Facility(origin, asked.partner.name)
    return Asked(asked.partner, uncovered=Uncovered(facility, said, _REASONS[said]), code=said)


def _announced(tx: Tx, origin: PeerId) -> KeyAnnouncement | None:
    """Return what an origin announces last; an older epoch's may not be withdrawn yet."""
    found = []
    for entry in labels.find(tx, LABEL, origin):
        try:
            found.append(read_announcement(entry.body))
        except Malformed:
            continue  # Whatever stands there announces nothing.
    return max(found, key=lambda each: each.key_epoch, default=None)


def _put_on_record(tx: Tx, peer_id: PeerId, now: int) -> None:
    wrong_key(tx, peer_id, now)
    detail = {"code": str(CanarySaid.WRONG)}
    event = AuditEvent("partner-fault", "failed", NODE, partner=peer_id, detail=detail)
    audit.append(tx, event, now)
