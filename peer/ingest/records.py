"""The rows of one group commit: patients, studies, packs, instances, audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from peer import audit
from peer.actors import Actor
from peer.audit import AuditEvent
from peer.index import instances, packs
from peer.index.database import Tx
from peer.ingest.arrival import Arrival
from peer.ingest.outcome import CONFLICT
from peer.ingest.writers import Group

_Delivery: TypeAlias = tuple[str, Actor, str]
"""Study, sender and door: one audit record for each in a group."""


def record_group(tx: Tx, group: Group, conflicts: Iterable[Arrival], issuer: str, now: int) -> None:
    """Put what was written, and what contradicted it, on record.

    `issuer` stands for an Issuer of Patient ID that an instance does not name.
    """
    patients: dict[str, int] = {}
    # The instances of one study mostly say the same of it: that is looked at once.
    headers = {(e.arrival.header.patient, e.arrival.header.study): e.arrival for e in group.written}
    for arrival in headers.values():
        uid = arrival.study_instance_uid
        patients[uid] = instances.add_study(
            tx,
            arrival.header,
            issuer=issuer,
            wrapped_key=group.study_keys[uid],
            origin=None,
            now=now,
        )
    for pack_id, pack in group.packs.items():
        row = packs.PackRow(pack_id, pack.study_instance_uid, pack.wrapped_key, pack.stored_bytes)
        packs.put(tx, row)
    instances.add_instances(tx, ((each.arrival.header, each.placement) for each in group.written))
    for event in _imports((each.arrival for each in group.written), patients):
        audit.append(tx, event, now)
    for event in _refusals(conflicts):
        audit.append(tx, event, now)


def _imports(arrivals: Iterable[Arrival], patients: dict[str, int]) -> Iterator[AuditEvent]:
    for (uid, actor, source), count in _deliveries(arrivals).items():
        yield AuditEvent(
            action="import",
            outcome="success",
            actor=actor,
            patient=str(patients[uid]),
            study_instance_uid=uid,
            detail={"source": source, "instances": count},
        )


def _refusals(arrivals: Iterable[Arrival]) -> Iterator[AuditEvent]:
    for (uid, actor, source), count in _deliveries(arrivals).items():
        yield AuditEvent(
            action="store",
            outcome="refused",
            actor=actor,
            study_instance_uid=uid,
            detail={"source": source, "instances": count, "code": CONFLICT},
        )


def _deliveries(arrivals: Iterable[Arrival]) -> Counter[_Delivery]:
    return Counter((each.study_instance_uid, each.actor, each.source) for each in arrivals)
