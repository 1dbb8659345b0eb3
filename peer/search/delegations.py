"""Search keys handed to a partner, and taken from one: delegated mode, both sides.

What we hand out is sent by itself, to whoever the operator has named, until it is confirmed: after
each change of mode, whenever a key epoch of the partner's audiences has begun, and on each new
link, since the partner may have been restored from a backup.  Nothing can be asked for.  What
partners hand to us replaces asking them for as long as it fits their journals.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import Final

import structlog

from peer import audit
from peer.actors import NODE, Actor, partner_node
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.errors import NodeError, NotFound
from peer.index import Database, Tx, delegations, journal, key_epochs
from peer.index.delegations import Delegation
from peer.index.journal import Halt
from peer.keys import NodeKeys
from peer.link import Links
from peer.logs import Seldom
from peer.partners import Partner
from protocol.delegation import (
    DELEGATION_DOMAIN,
    AudienceKeys,
    DelegationBody,
    keys_for,
    open_keys,
    seal_keys,
)
from protocol.errors import Refusal
from protocol.evaluation import EVERYONE
from protocol.identifiers import PeerId
from protocol.limits import PROTOCOL_VERSION
from protocol.messages import SearchKeys
from protocol.sealing import SECRET_BYTES
from protocol.signing import sign

LOOK_AGAIN_S: Final = 5
"""How often it is looked whether partners hold the keys that they should: a table of a few rows.
After a change of keys a partner asks us again for so long, as anybody does."""

ANSWER_S: Final = 30
"""For the partner's confirmation; it writes one row."""

REFUSED_S: Final = 3600
"""How often it is logged that a partner does not take its keys: a node of an older version."""

_log = structlog.get_logger()


class Mode(StrEnum):
    """How a partner searches our journal."""

    GUARDED = "guarded"
    DELEGATED = "delegated"

    @property
    def effect(self) -> str:
        """What it means, in a sentence for the operator who chooses."""
        return _EFFECTS[self]


_EFFECTS: Final = {
    Mode.GUARDED: "It asks this facility for each search, which is counted, limited and on record "
    "here, and finds new patients only while this facility can be reached.",
    Mode.DELEGATED: "It holds this facility's search keys: it searches at once, even while this "
    "facility is offline, but without limit and record here, and could list every patient who is "
    "shared with it; meant for facilities of one legal entity.",
}


class Delegations:
    """To whom we hand our search keys, and whose keys we hold.

    `load` first.  `partners` returns the active partners; `keys_due` is called when the keys of a
    partner's audiences are to be replaced.
    """

    def __init__(
        self,
        db: Database,
        keys: NodeKeys,
        links: Links,
        clock: Clock,
        partners: Callable[[], Iterable[Partner]],
        keys_due: Callable[[], Awaitable[None]],
    ) -> None:
        self._db = db
        self._keys = keys
        self._links = links
        self._clock = clock
        self._partners = partners
        self._keys_due = keys_due
        self._refused = Seldom(REFUSED_S)
        self._given: dict[PeerId, Delegation] = {}
        self._held: dict[PeerId, DelegationBody] = {}
        self._linked: set[PeerId] = set()
        self._wake = asyncio.Event()
        links.handle(SearchKeys, self.receive)

    async def load(self) -> None:
        """Read both tables from the index; again after a partner was removed.

        An index that was set back may have forgotten that keys were to be handed out no more:
        nobody is given any until the operator says so again.
        """
        now = self._clock.now()

        def work(tx: Tx) -> tuple[list[Delegation], list[DelegationBody]]:
            given = delegations.every(tx)
            if journal.halted(tx) in {Halt.BEHIND, Halt.FORKED}:
                given = [_taken_back(tx, each, now) for each in given]
            return given, delegations.held(tx)

        given, held = await self._db.write(work)
        self._given = {each.peer_id: each for each in given}
        self._held = {PeerId(each.author): each for each in held}

    # -- what holds -------------------------------------------------------------------------------

    def mode(self, peer_id: PeerId) -> Mode:
        """Return how a partner searches our journal."""
        given = self._given.get(peer_id)
        return Mode.DELEGATED if given is not None and given.delegated else Mode.GUARDED

    def mode_there(self, peer_id: PeerId) -> Mode:
        """Return how we search a partner's journal."""
        return Mode.DELEGATED if peer_id in self._held else Mode.GUARDED

    def held(self, peer_id: PeerId) -> tuple[AudienceKeys, ...]:
        """Return the keys of a partner that we hold: of two audiences, or none."""
        body = self._held.get(peer_id)
        return () if body is None else body.keys

    def to_json(self, peer_id: PeerId) -> dict[str, object]:
        """Return both modes as the API shows them.

        `confirmed`: whether the partner has said that it holds the keys that it is to hold, or
        none.
        """
        given, mode = self._given.get(peer_id), self.mode(peer_id)
        told = None if given is None else given.told
        return {
            "mode": str(mode),
            "mode_there": str(self.mode_there(peer_id)),
            "confirmed": (told is not None) == (mode is Mode.DELEGATED),
            "effect": mode.effect,
        }

    # -- the operator -----------------------------------------------------------------------------

    async def set_mode(self, peer_id: PeerId, mode: Mode, actor: Actor, reason: str = "") -> None:
        """Hand our search keys to a partner from now on, or have them replaced.

        Raise NotFound if the facility is no partner.
        """
        if peer_id not in {each.peer_id for each in self._partners()}:
            raise NotFound("This facility is no partner. The list of partners shows who is.")
        if mode is self.mode(peer_id):
            return
        now, delegated = self._clock.now(), mode is Mode.DELEGATED
        before = self._given.get(peer_id) or Delegation(peer_id, delegated, now)
        after = replace(before, delegated=delegated, since=now)

        def work(tx: Tx) -> None:
            delegations.put(tx, after)
            if not delegated:
                key_epochs.replace(tx, peer_id)
            detail = {"mode": str(mode), "reason": reason}
            event = AuditEvent("search-mode", "success", actor, partner=peer_id, detail=detail)
            audit.append(tx, event, now)

        await self._db.write(work)
        self._given[peer_id] = after
        if not delegated:
            await self._keys_due()
        self._wake.set()

    # -- handing out ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Bring partners the keys that they should hold, until cancelled."""
        self._links.on_connected(self._connected)
        while True:
            try:
                await self.hand_out()
            except NodeError as error:
                # A full disk, for one: it is tried again.
                _log.warning("search-keys-interrupted", reason=type(error).__name__)
            # Not wait_for: until Python 3.12 it can swallow a cancellation, and run on for ever.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_S):
                    await self._wake.wait()
            self._wake.clear()

    def _connected(self, peer_id: PeerId) -> None:
        self._linked.add(peer_id)
        self._wake.set()

    async def hand_out(self) -> None:
        """Send their keys to the partners that hold others than they should."""
        partners = {each.peer_id: each for each in self._partners()}
        due = (
            self._bring(partners[each.peer_id], each)
            for each in self._given.values()
            if each.peer_id in partners
        )
        await asyncio.gather(*due)

    async def _bring(self, partner: Partner, given: Delegation) -> None:
        peer_id = partner.peer_id
        wanted = await self._db.read(partial(_epochs, peer_id=peer_id)) if given.delegated else None
        present = None if wanted is None else wanted[0]
        is_known = present == given.told and peer_id not in self._linked
        if is_known or (given.delegated and present is None):
            return
        keys = () if wanted is None else keys_for(self._keys.search_master, peer_id, wanted)
        body = DelegationBody(
            PROTOCOL_VERSION, self._keys.peer_id, peer_id, self._clock.now(), keys
        )
        box = seal_keys(
            partner.record.seal_public,
            secrets.token_bytes(SECRET_BYTES),
            body,
            lambda payload: sign(self._keys.node_seed, DELEGATION_DOMAIN, payload),
        )
        try:
            await self._links.request(peer_id, SearchKeys(box), ANSWER_S)
        except Refusal as refusal:
            if self._refused.is_due(peer_id, self._clock.now()):
                _log.warning("search-keys-refused", partner=peer_id.hex(), code=refusal.code)
            return
        except (NodeError, TimeoutError):
            return  # Not connected: it is tried again when the link comes up.
        self._linked.discard(peer_id)
        await self._db.write(lambda tx: delegations.note_told(tx, peer_id, present))
        shown = self._given.get(peer_id)
        if shown is not None:
            everyone, own = present or (None, None)
            self._given[peer_id] = replace(shown, told_everyone=everyone, told_own=own)

    # -- receiving --------------------------------------------------------------------------------

    async def receive(self, message: SearchKeys, partner: Partner) -> None:
        """Keep the keys that a partner hands to us, or forget them; raise what `open_keys` does."""
        now, peer_id = self._clock.now(), partner.peer_id
        read = partial(
            open_keys,
            box=message.box,
            key=partner.record.node_public,
            author=peer_id,
            me=self._keys.peer_id,
            now=now,
        )
        body = self._keys.unsealed(read)
        if body.keys == self.held(peer_id):
            return  # Confirmed already, and that was lost on the way.

        def work(tx: Tx) -> None:
            delegations.hold(tx, body)
            actor = partner_node(peer_id, partner.name)
            mode = Mode.DELEGATED if body.keys else Mode.GUARDED
            detail: dict[str, str | int] = {"mode": str(mode)}
            if body.keys:
                detail["key_epoch"] = body.keys[0].key_epoch
            event = AuditEvent("search-keys", "success", actor, partner=peer_id, detail=detail)
            audit.append(tx, event, now)

        await self._db.write(work)
        if body.keys:
            self._held[peer_id] = body
        else:
            self._held.pop(peer_id, None)


def _taken_back(tx: Tx, given: Delegation, now: int) -> Delegation:
    """Return the mode of a partner once it is given no keys any more."""
    if not given.delegated:
        return given
    after = replace(given, delegated=False, since=now)
    delegations.put(tx, after)
    key_epochs.replace(tx, given.peer_id)
    detail = {"mode": str(Mode.GUARDED), "reason": "The index was set back."}
    event = AuditEvent("search-mode", "success", NODE, partner=given.peer_id, detail=detail)
    audit.append(tx, event, now)
    return after


def _epochs(tx: Tx, peer_id: PeerId) -> tuple[tuple[int, int], ...] | None:
    """Return the key epochs in which a partner is answered, None while they do not fit it yet."""
    if not key_epochs.are_held(tx, peer_id):
        return None
    return key_epochs.answered(tx, EVERYONE, bytes(peer_id))
