"""Alerts to the people of this facility, raised in the transaction of what they are about.

break-glass
    Someone searched or fetched in an emergency, with a reason, past what would have stood against
    it.  Both facilities are alerted; the reason stays at the one where it was given.
quota
    A partner asked for more in a day than its agreement allows.  An honest node stops by itself, so
    its record is wrong, or it is up to something.
wrong-key
    A partner answered a search with another key than it announces: what it publishes cannot be
    found with its answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from peer import audit
from peer.actors import Actor
from peer.audit import AuditEvent
from peer.clock import Clock
from peer.errors import NotFound
from peer.index import Database, Tx, alerts
from peer.index.alerts import AlertRow
from protocol.errors import Refusal
from protocol.identifiers import PeerId
from protocol.reciprocity import breaks_glass

BREAK_GLASS: Final = "break-glass"
QUOTA: Final = "quota"
WRONG_KEY: Final = "wrong-key"


class Alerts:
    """What has not been looked at yet, and what has; `listed`: most of them in one list."""

    def __init__(
        self, db: Database, clock: Clock, name: Callable[[PeerId], str], listed: int
    ) -> None:
        self._db = db
        self._clock = clock
        self._name = name
        self._listed = listed

    async def list(self, *, open_only: bool) -> Sequence[dict[str, object]]:
        """Return the latest alerts as the API shows them, open ones first."""
        rows = await self._db.read(lambda tx: alerts.latest(tx, self._listed, open_only=open_only))
        return [self._to_json(row) for row in rows]

    async def acknowledge(self, alert: int, actor: Actor) -> dict[str, object]:
        """Note that `actor` has looked at an alert; raise NotFound."""

        def work(tx: Tx) -> AlertRow:
            known = alerts.get(tx, alert)
            if known is None:
                raise NotFound("There is no such alert; the list of alerts shows all of them.")
            if known.acknowledged_at is not None:
                return known
            now = self._clock.now()
            alerts.acknowledge(tx, alert, actor.name, now)
            event = AuditEvent(
                "alert-acknowledged",
                "success",
                actor,
                partner=known.partner,
                detail={"alert": alert, "kind": known.kind, "times": known.times},
            )
            audit.append(tx, event, now)
            return alerts.get(tx, alert) or known

        return self._to_json(await self._db.write(work))

    def _to_json(self, row: AlertRow) -> dict[str, object]:
        name = None if row.partner is None else self._name(PeerId(row.partner))
        return {
            "alert": row.alert,
            "kind": row.kind,
            "sentence": _sentence(row, name),
            "peer_id": row.partner,
            "name": name,
            "person": row.person,
            "reason": row.reason,
            "first_at": row.first_at,
            "last_at": row.last_at,
            "times": row.times,
            "acknowledged_at": row.acknowledged_at,
            "acknowledged_by": row.acknowledged_by,
        }


def glass_broken_here(tx: Tx, actor: Actor, reason: str, what: str, now: int) -> None:
    """Alert to an emergency access by someone here, before anybody is asked for anything.

    `what`: "search", "identify" or "retrieve".  Nothing happens for other purposes.  Raises Refusal
    without a reason, and for a reason that is given for another purpose.
    """
    if breaks_glass(actor.purpose) != bool(reason.strip()):
        raise _without_purpose() if reason.strip() else _without_reason()
    if not breaks_glass(actor.purpose):
        return
    alerts.put(tx, BREAK_GLASS, None, actor.name, reason.strip(), now)
    detail: dict[str, str | int] = {"what": what, "reason": reason.strip()}
    audit.append(tx, AuditEvent(BREAK_GLASS, "success", actor, detail=detail), now)


def glass_broken_by(tx: Tx, actor: Actor, partner: PeerId, what: str, now: int) -> None:
    """Alert to an emergency access by someone at a partner; nothing happens for other purposes."""
    if breaks_glass(actor.purpose):
        alerts.put(tx, BREAK_GLASS, partner, actor.name, "", now)
        event = AuditEvent(BREAK_GLASS, "success", actor, partner=partner, detail={"what": what})
        audit.append(tx, event, now)


def over_quota(tx: Tx, partner: PeerId, now: int) -> None:
    """Alert to a partner that asks for more in a day than the agreement allows."""
    alerts.put(tx, QUOTA, partner, "", "", now)


def wrong_key(tx: Tx, partner: PeerId, now: int) -> None:
    """Alert to a partner that answers searches with another key than it announces."""
    alerts.put(tx, WRONG_KEY, partner, "", "", now)


def _sentence(row: AlertRow, name: str | None) -> str:
    times = "" if row.times == 1 else f" {row.times} times"
    if row.kind == QUOTA:
        return f"{name} asked for more in a day than the peering agreement allows, and was refused."
    if row.kind == WRONG_KEY:
        return (
            f"{name} answered searches with another key than it announces: what it shares cannot "
            "be found. Ask its operator."
        )
    if name is None:
        return f"{row.person} used emergency access{times}."
    return f"Someone at {name} used emergency access here{times}; that facility has the reason."


def _without_reason() -> Refusal:
    return Refusal(
        "reason-needed",
        "Emergency access needs a reason, in a sentence.",
        "Say why; it goes on record here, and both facilities are alerted.",
    )


def _without_purpose() -> Refusal:
    return Refusal(
        "not-an-emergency",
        "A reason is given for emergency access alone, which has the purpose BTG.",
        "Leave the reason out, or ask with the purpose BTG.",
    )
