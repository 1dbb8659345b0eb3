"""What the node remembers of its backups: audit records, and when the last one was complete."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

from peer import audit
from peer.actors import Actor
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.index import Database, Tx, meta

_LAST: Final = "last-backup"


@dataclass(frozen=True, slots=True)
class LastBackup:
    """The newest complete set.  made_at: of when it is; done_at: when it was durable."""

    set_name: str
    made_at: int
    done_at: int
    packs: int
    missing: int


class Backups:
    """The room's part in a running node."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def begin(self, set_name: str, actor: Actor) -> None:
        """Put on record that everything here is about to be copied, before the first byte is."""
        detail: dict[str, str | int] = {"set": set_name, "step": "begin"}
        event = AuditEvent("backup", "success", actor, detail=detail)
        await self._db.write(lambda tx: audit.append(tx, event, self._clock.now()))

    async def done(
        self, set_name: str, made_at: int, packs: int, missing: int, actor: Actor
    ) -> LastBackup:
        """Put on record that a set is complete and durable."""
        now = self._clock.now()
        last = LastBackup(set_name, made_at, now, packs, missing)
        detail: dict[str, str | int] = {"set": set_name, "step": "done", "packs": packs}
        detail["missing"] = missing
        event = AuditEvent("backup", "success", actor, detail=detail)

        def work(tx: Tx) -> None:
            meta.put(tx, _LAST, json.dumps(asdict(last)).encode())
            audit.append(tx, event, now)

        await self._db.write(work)
        return last

    async def last(self) -> LastBackup | None:
        """Return the newest complete set that was told here."""
        content = await self._db.read(lambda tx: meta.get(tx, _LAST))
        return None if content is None else LastBackup(**json.loads(content))
