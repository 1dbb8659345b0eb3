"""New keys for the running node: drafted here, signed by the root key, put to use at once.

The root key never comes here: whoever holds it is given the record to sign.  The new keys take over
between two batches of the journal, in the database's thread, where nothing else is signed
meanwhile.  They are durable before anyone is told; whoever was not told finds out by itself, at the
listener for key records.

A node that was restored from a backup which is older than its last rotation learns of that from its
partners.  Its keys are *retired*: it signs nothing more until the root key has given it new ones.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeAlias

import structlog

from peer.actors import NODE, Actor
from peer.audit import AuditEvent, append
from peer.clock import Clock
from peer.config import Settings
from peer.errors import Conflict
from peer.index import Database, Tx, epochs, journal, meta
from peer.keys import Draft, NodeKeys, draft, install, install_known
from peer.link import Links
from protocol.errors import Refusal
from protocol.keyrecord import KeyRecord, SignedKeyRecord, verify_record
from protocol.limits import PAIRING_BYTES
from protocol.records import from_bytes, to_bytes

_ON_RECORD: Final = "keys.revision"
"""The revision of the newest key record that the audit trail names."""

_NEWER: Final = "keys.newer"
"""A later record of ours whose keys this node does not have."""

UNSEEN_EPOCHS: Final = 100
"""How many epochs of the journal may have begun since a backup of which nothing is left here: each
takes an operator and the root key."""

DAY_S: Final = 24 * 3600

Listener: TypeAlias = Callable[[], None]
Retired: TypeAlias = Callable[[], Awaitable[None]]

_log = structlog.get_logger()


class Rotation:
    """Exchanges this node's keys, or what its key record says, while it runs.

    New keys begin with the next batch of the journal: `may_write` says in a transaction whether it
    is known by now which that is.
    """

    def __init__(
        self,
        data: Path,
        settings: Settings,
        *,
        db: Database,
        keys: NodeKeys,
        clock: Clock,
        links: Links,
        may_write: Callable[[Tx], bool],
    ) -> None:
        self.data = data
        self._settings = settings
        self._db = db
        self._keys = keys
        self._clock = clock
        self._links = links
        self._may_write = may_write
        self._draft: Draft | None = None
        self._listeners: list[Listener] = []
        self._retired: list[Retired] = [links.keys_retired]

    def on_changed(self, listener: Listener) -> None:
        """Have `listener` called after the keys changed, before any partner is told."""
        self._listeners.append(listener)

    def on_retired(self, listener: Retired) -> None:
        """Have `listener` awaited when it was learnt that our keys are retired."""
        self._retired.append(listener)

    async def begin(self, *, new_keys: bool) -> KeyRecord:
        """Return the record that the root key is to sign; it lives until the next one is begun.

        The facility's name and its addresses are those of the settings, as far as they say any.
        """
        settings = self._settings
        if self._keys.are_retired and not new_keys:
            raise Refusal(
                "keys-retired",
                "Partners know later keys of this facility than this node has.",
                "Give it new ones: openpriors keys rotate",
            )
        position = await self._db.read(self._next_position) if new_keys else None
        self._draft = draft(
            self.data,
            settings,
            now=self._clock.now(),
            new_keys_from=position,
            facility_name=settings.facility.name or None,
            federation_url=settings.federation.public_url or None,
            pairing_url=settings.pairing.public_url or None,
            last_s=settings.keys.renew_after_days * DAY_S,
            newest=self._newest,
        )
        return self._draft.record

    async def finish(self, signed: SignedKeyRecord, actor: Actor) -> None:
        """Put the keys of the record that was begun to use, now that the root has signed it.

        Raise Conflict if another one was begun, Refusal if the journal has moved on meanwhile,
        BadSignature if another key has signed it.
        """
        wanted = self._draft
        if wanted is None:
            raise Conflict("No rotation was begun, or this one was finished. Begin it anew.")

        def work(tx: Tx) -> None:
            if self._newest.revision + 1 != wanted.record.revision:
                raise Conflict("The keys were changed meanwhile. Begin the rotation anew.")
            if wanted.new_keys_from not in {None, self._next_position(tx)}:
                raise _moved()
            self._record(tx, wanted.record, actor)
            meta.delete(tx, _NEWER)
            # Last, and with the database locked: after it no batch is signed by the old key.
            self._keys.adopt(install(self.data, self._settings, wanted, signed))

        await self._db.write(work)
        self._draft = None
        await self._tell(wanted.record)

    async def learn(self, signed: SignedKeyRecord) -> None:
        """Take note of a record of ours, shown by a partner, that is later than the one held here.

        If its keys are those that this node has, it is put to use.  If not, ours are retired: links
        end, and nothing is signed any more.  Raise BadSignature if our root did not sign it.
        """
        record = verify_record(signed, self._keys.peer_id)

        def work(tx: Tx) -> bool | None:
            if record.revision <= self._newest.revision:
                return None
            if is_same := _keys_of(record) == _keys_of(self._keys.key_record):
                self._record(tx, record, NODE)
                self._keys.adopt(install_known(self.data, self._settings, signed))
            else:
                meta.put(tx, _NEWER, to_bytes(signed))
                detail: dict[str, str | int] = {"key record": record.revision}
                append(tx, AuditEvent("keys", "failed", NODE, detail=detail), self._clock.now())
                self._keys.newer = signed
            return is_same

        is_same = await self._db.write(work)
        if is_same:
            await self._tell(record)
        elif is_same is not None:
            _log.error("keys-retired", revision=record.revision)
            for retired in self._retired:
                await retired()

    async def _tell(self, record: KeyRecord) -> None:
        _log.info("keys-changed", revision=record.revision)
        for listener in self._listeners:
            listener()
        await self._links.keys_changed()

    @property
    def _newest(self) -> KeyRecord:
        """The latest record of ours that is known here, of whatever keys."""
        return verify_record(self._keys.newer or self._keys.record, self._keys.peer_id)

    async def put_on_record(self) -> None:
        """Put a change of keys on record that a crash, or a restored file, has kept from it.

        Learn again that our keys are retired, if they were when the node stopped.
        """

        def work(tx: Tx) -> None:
            known, record = meta.get(tx, _ON_RECORD), self._keys.key_record
            if known is None:
                meta.put(tx, _ON_RECORD, str(record.revision).encode())
            elif int(known) != record.revision:
                self._record(tx, record, NODE)
            newer = meta.get(tx, _NEWER)
            if newer is not None:
                signed = from_bytes(SignedKeyRecord, newer, PAIRING_BYTES)
                is_newer = verify_record(signed, self._keys.peer_id).revision > record.revision
                self._keys.newer = signed if is_newer else None

        await self._db.write(work)

    def _record(self, tx: Tx, record: KeyRecord, actor: Actor) -> None:
        detail: dict[str, str | int] = {
            "key record": record.revision,
            "node key": record.node_public.hex(),
            "from batch": record.node_keys[-1].from_batch,
        }
        append(tx, AuditEvent("keys", "success", actor, detail=detail), self._clock.now())
        meta.put(tx, _ON_RECORD, str(record.revision).encode())

    def _next_position(self, tx: Tx) -> tuple[int, int]:
        if self._keys.are_retired:
            # What the lost keys have signed is not known here. Behind all of it is a new epoch.
            last = max(epochs.newest(tx, self._keys.peer_id), self._newest.node_keys[-1].from_epoch)
            return last + UNSEEN_EPOCHS, 0
        if not self._may_write(tx):
            raise Refusal(
                "journal-halted",
                "It is not known yet how far this facility's journal has come, and new keys begin "
                "with its next batch.",
                "Wait until it is: openpriors journal show",
            )
        head = journal.head(tx, self._keys.peer_id)
        return (0, 0) if head is None else (head.epoch, head.batch + 1)


def _keys_of(record: KeyRecord) -> tuple[bytes, bytes, bytes]:
    return record.node_public, record.seal_public, record.tls_certificate


def _moved() -> Refusal:
    return Refusal(
        "journal-moved",
        "Something was published between drafting the key record and signing it.",
        "Begin the rotation anew.",
    )
