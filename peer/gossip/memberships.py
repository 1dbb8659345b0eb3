"""What origins have signed for us, and we for them: that a journal may be passed on."""

from __future__ import annotations

from peer.clock import Clock
from peer.index import memberships
from peer.index.database import Database
from peer.index.journal import JournalKeys
from protocol.identifiers import PeerId
from protocol.messages import MEMBERSHIP_DOMAIN, Membership
from protocol.relay import membership
from protocol.statements import Statement, sign_statement


class Memberships:
    """The last membership of each origin in `held`, as `partners_db` keeps it."""

    def __init__(self, partners_db: Database, keys: JournalKeys, clock: Clock) -> None:
        self.held: dict[PeerId, Statement] = {}
        self._partners_db = partners_db
        self._keys = keys
        self._clock = clock

    async def load(self) -> None:
        """Read what each origin has signed for us."""
        self.held = await self._partners_db.read(memberships.all_of)

    def vouch(self, partner: PeerId) -> Membership:
        """Sign that `partner` may be given our journal."""
        body = membership(self._keys.peer_id, partner, self._clock.now())
        return Membership(sign_statement(self._keys.node_seed, MEMBERSHIP_DOMAIN, body))

    async def keep(self, origin: PeerId, statement: Statement) -> None:
        """Keep what an origin has signed for us, in the place of what it signed before."""
        await self._partners_db.write(lambda tx: memberships.keep(tx, origin, statement))
        self.held[origin] = statement

    async def forget(self, origin: PeerId) -> None:
        """Forget what a removed partner has signed for us."""
        await self._partners_db.write(lambda tx: memberships.forget(tx, origin))
        self.held.pop(origin, None)
