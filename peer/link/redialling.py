"""Keeps a link to each partner: dials anew whenever there is none, with growing pauses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from peer.clock import Clock
from peer.config import Link
from peer.keys import NodeKeys
from peer.link.acquaintance import Acquaintance
from peer.link.connection import Connection
from peer.link.dialling import DialFailed, dial
from peer.link.line import Line
from peer.link.state import NOT_ACCEPTED
from peer.outbound import WRONG_CERTIFICATE, Proxy
from peer.partners import Partner, Partners
from protocol.identifiers import PeerId
from protocol.messages import Hello
from protocol.versions import Versions

FIRST_PAUSE_S: Final = 1.0
"""The pause after a first failure; it doubles up to `link.redial_most_s`."""

STEADY_S: Final = 30
"""A link that lasted so long was a good one: the next attempt is made without a pause."""

Serve: TypeAlias = Callable[[Connection, Hello], Awaitable[None]]


class Redialler:
    """Dials partners.  `serve(connection, hello)` runs a link to its end."""

    def __init__(
        self,
        keys: NodeKeys,
        partners: Partners,
        clock: Clock,
        settings: Link,
        proxy: Proxy,
        speaks: Versions,
        acquaintance: Acquaintance,
        serve: Serve,
    ) -> None:
        self._keys = keys
        self._partners = partners
        self._clock = clock
        self._settings = settings
        self._proxy = proxy
        self._speaks = speaks
        self._acquaintance = acquaintance
        self._serve = serve

    async def keep(self, peer_id: PeerId, line: Line) -> None:
        """Dial a partner whenever there is no link to it, until it is no partner any more."""
        pause = 0.0
        while (partner := self._active(peer_id)) is not None:
            line.changed.clear()
            if line.connection is not None:
                await line.changed.wait()
                continue
            lasted_s = await self.dial_once(partner, line)
            # That our own link has ended is no news; a partner that stops is not dialled in a rush.
            line.changed.clear()
            longer = min(max(2 * pause, FIRST_PAUSE_S), self._settings.redial_most_s)
            pause = 0.0 if lasted_s >= STEADY_S else longer
            if line.connection is None:
                jitter = random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, keeps no secret
                if await line.wait_for_change(pause * jitter):
                    pause = 0.0

    async def dial_once(self, partner: Partner, line: Line) -> int:
        """Dial, and serve the link to its end; return for how many seconds it lasted."""
        try:
            now, session = self._clock.now(), line.open_session(self._keys, partner, self._settings)
            connection, hello = await dial(
                session, self._keys, partner, now, self._settings, self._proxy, self._speaks
            )
        except DialFailed as failure:
            line.note_failure(failure, self._clock.now())
            if failure.code in {WRONG_CERTIFICATE, NOT_ACCEPTED}:
                await self._acquaintance.seek(partner, failure.code)
            return 0
        time = asyncio.get_running_loop().time
        started = time()
        await self._serve(connection, hello)
        return int(time() - started)

    def _active(self, peer_id: PeerId) -> Partner | None:
        partner = self._partners.get(peer_id)
        return partner if partner is not None and partner.active else None
