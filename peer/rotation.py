"""New keys for the running node: drafted here, signed by the root key, put to use at once.

The root key never comes here: whoever holds it is given the record to sign.  The new keys take over
between two batches of the journal, in the database's thread, where nothing else is signed
meanwhile.  They are durable before anyone is told; whoever was not told finds out by itself, at the
listener for key records.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import structlog

from peer.actors import NODE, Actor
from peer.audit import AuditEvent, append
from peer.clock import Clock
from peer.config import Settings
from peer.errors import Conflict
from peer.index import Database, Tx, journal, meta
from peer.keys import Draft, NodeKeys, draft, install
from peer.link import Links
from protocol.errors import Refusal
from protocol.keyrecord import KeyRecord, SignedKeyRecord

_ON_RECORD: Final = "keys.revision"
"""The revision of the newest key record that the audit trail names."""

DAY_S: Final = 24 * 3600

Listener: TypeAlias = Callable[[], None]

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

    def on_changed(self, listener: Listener) -> None:
        """Have `listener` called after the keys changed, before any partner is told."""
        self._listeners.append(listener)

    async def begin(self, *, new_keys: bool) -> KeyRecord:
        """Return the record that the root key is to sign; it lives until the next one is begun.

        The facility's name and its addresses are those of the settings, as far as they say any.
        """
        settings = self._settings
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
            if self._keys.key_record.revision + 1 != wanted.record.revision:
                raise Conflict("The keys were changed meanwhile. Begin the rotation anew.")
            if wanted.new_keys_from not in {None, self._next_position(tx)}:
                raise _moved()
            self._record(tx, wanted.record, actor)
            # Last, and with the database locked: after it no batch is signed by the old key.
            self._keys.adopt(install(self.data, self._settings, wanted, signed))

        await self._db.write(work)
        self._draft = None
        _log.info("keys-changed", revision=wanted.record.revision)
        for listener in self._listeners:
            listener()
        await self._links.keys_changed()

    async def put_on_record(self) -> None:
        """Put a change of keys on record that a crash, or a restored file, has kept from it."""

        def work(tx: Tx) -> None:
            known, record = meta.get(tx, _ON_RECORD), self._keys.key_record
            if known is None:
                meta.put(tx, _ON_RECORD, str(record.revision).encode())
            elif int(known) != record.revision:
                self._record(tx, record, NODE)

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
        if not self._may_write(tx):
            raise Refusal(
                "journal-halted",
                "It is not known yet how far this facility's journal has come, and new keys begin "
                "with its next batch.",
                "Wait until it is: openpriors journal show",
            )
        head = journal.head(tx, self._keys.peer_id)
        return (0, 0) if head is None else (head.epoch, head.batch + 1)


def _moved() -> Refusal:
    return Refusal(
        "journal-moved",
        "Something was published between drafting the key record and signing it.",
        "Begin the rotation anew.",
    )
