"""What is known of one partner's link, whether it is up or not."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import aiohttp

from peer.config import Link
from peer.keys import NodeKeys
from peer.link import state
from peer.link.connection import Connection
from peer.link.dialling import DialFailed, new_session
from peer.link.metering import Meter
from peer.link.state import LinkState
from peer.partners import Partner
from protocol.errors import Refusal

_CLOSED_IN_SILENCE = "They closed the connection without a word; it is dialled again."


@dataclass(slots=True)
class Line:
    """One partner's link.  `changed`: set to have it looked at anew.  `meter` outlives every link.

    `session` is for what is called at its listener.  `silent`: the last attempt ended as one ends
    that is refused.  `detour_until`: until this instant of the loop's clock ranges take the link,
    because the listener could not be reached.
    """

    meter: Meter
    connection: Connection | None = None
    session: aiohttp.ClientSession | None = None
    state: LinkState = field(default_factory=LinkState)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    silent: bool = False
    detour_until: float = 0.0
    task: asyncio.Task[None] | None = None

    def note_up(self, connection: Connection, version: int, clock_offset_s: int, now: int) -> None:
        """Note that `connection` is the link from now on, and speaks `version`."""
        self.connection = connection
        self.state = LinkState(True, now, "", "", clock_offset_s, version=version)
        self.changed.set()

    def note_down(self, reason: str, now: int) -> None:
        """Note that there is no link any more, and why."""
        self.connection = None
        self.note(state.CLOSED, reason or "The link went down; it is dialled anew.", now)
        self.changed.set()

    def note(self, code: str, sentence: str, now: int) -> None:
        """Note why there is no link; `since` stays the moment at which it was lost."""
        down_since = None if self.state.connected else self.state.since
        since = now if down_since is None else down_since
        self.state = LinkState(False, since, sentence, code)

    def note_failure(self, failure: DialFailed, now: int) -> None:
        """Note why an attempt to dial did not lead to a link."""
        silent_before, self.silent = self.silent, failure.code == state.NOT_ACCEPTED
        if self.connection is not None:
            return
        if self.silent and not silent_before:
            # A node that is stopping closes in silence too; one that refuses does it again.
            self.note(state.CLOSED, _CLOSED_IN_SILENCE, now)
        else:
            self.note(failure.code, failure.sentence, now)

    def note_refusal(self, refusal: Refusal, now: int) -> None:
        """Note why the partner, which has dialled, was not let in."""
        if self.connection is None:
            self.note(refusal.code, f"{refusal.reason} {refusal.remedy}", now)

    async def wait_for_change(self, pause_s: float) -> bool:
        """Wait until `changed` is set, at most `pause_s`; return whether it is."""
        return await wait(self.changed, pause_s)

    def open_session(
        self, keys: NodeKeys, partner: Partner, settings: Link
    ) -> aiohttp.ClientSession:
        """Return the pooled session for calls to the partner's listener."""
        if self.session is None or self.session.closed:
            self.session = new_session(keys, partner, settings)
        return self.session

    async def close_session(self) -> None:
        """End what is under way at the partner's listener."""
        session, self.session = self.session, None
        if session is not None:
            await session.close()


async def wait(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait for `event`, at most `timeout_s`; return whether it came."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True
