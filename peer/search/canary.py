"""Whether partners answer searches with the keys that they announce (`protocol.announcement`)."""

from __future__ import annotations

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
from peer.search.asked import Asked, refused
from protocol.announcement import LABEL, CanarySaid, KeyAnnouncement, judge, read_announcement
from protocol.delegation import Outputs
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

    async def verified(self, asked: Asked) -> Asked:
        """Return what was answered, without an answer that opens nothing of what is published."""
        said = await self._said(asked)
        if said is CanarySaid.RIGHT:
            return asked
        if said is CanarySaid.WRONG:
            await self._tell(asked.partner.peer_id)
        return refused(asked.partner, said, _REASONS[said], said)

    async def fits(self, made: Asked) -> bool:
        """Return whether outputs that were made here are of the keys that the partner announces."""
        return await self._said(made) is CanarySaid.RIGHT

    async def _said(self, asked: Asked) -> CanarySaid:
        if asked.outputs is None:
            return CanarySaid.RIGHT
        return await self._partners_db.read(partial(_judged, asked.partner.peer_id, asked.outputs))

    async def _tell(self, peer_id: PeerId) -> None:
        now = self._clock.now()
        if self._seldom.is_due(peer_id, now):
            await self._db.write(partial(_put_on_record, peer_id=peer_id, now=now))


def _judged(origin: PeerId, outputs: Outputs, tx: Tx) -> CanarySaid:
    said = judge(_announced(tx, origin), outputs.key_epoch, outputs.canary)
    head = Held(tx, origin).head() if said is CanarySaid.UNANNOUNCED else None
    if said is CanarySaid.UNANNOUNCED and (head is None or not head.live_count):
        return CanarySaid.RIGHT  # Whoever publishes nothing need not announce how to find it.
    return said


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
