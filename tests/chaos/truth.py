"""After all is put right: what was acknowledged is there, and all hospitals agree on all of it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import Any

from peer import config, keys
from peer.index import INDEX_MIGRATIONS, PARTNERS_MIGRATIONS, Database, forks, frontiers
from peer.index.held import Held
from peer.keys import NodeKeys
from protocol.entries import leaf
from protocol.hashing import plain_hash
from tests.chaos.ledger import Patient
from tests.chaos.world import World
from tests.processes import Node, wait_until
from tests.simulation.memory import live_entries

PATIENCE_S = 120
"""Far beyond every back-off of the node: what has not come by then does not come."""
ENDED = {"complete", "incomplete", "refused", "revoked", "failed"}


def check(world: World) -> None:
    """Fail with a sentence for whatever was lost, or differs between two hospitals."""
    assert not world.ledger.wrong, world.ledger.wrong
    wait_until(
        lambda: not differences(world),
        "the journals do not meet",
        PATIENCE_S,
        more=lambda: f"{differences(world)}\n{world.logs()}",
    )
    for node in world.nodes:
        assert node.get("/audit/verify")["ok"], f"{node.name}: the audit trail is broken"
    for patient in list(world.ledger.patients):
        _check_home(world, patient)
        for number, node in enumerate(world.nodes):
            if number != patient.home:
                _check_partner(world, patient, node)
    _check_retrievals(world)
    for place in world.places:
        assert place.stop() == 0, f"{place.node.name} did not end well\n{place.node.log_lines()}"
    asyncio.run(_compare_databases(world.nodes))


# -- while they run -------------------------------------------------------------------------------


def differences(world: World) -> list[str]:
    """Return who does not hold whose newest head yet."""
    found = []
    for origin in world.nodes:
        status = origin.get("/status")
        peer_id, batch = status["facility"]["peer_id"], status["journal"]["batch"]
        held = {node.name: _newest(node, peer_id) for node in world.nodes if node is not origin}
        found += [
            f"{name} holds batch {number} of {origin.name}'s {batch}"
            for name, number in held.items()
            if number != batch
        ]
    return found


def _newest(node: Node, origin: str) -> int:
    with closing(sqlite3.connect(f"file:{node.data}/partners.db?mode=ro", uri=True)) as tx:
        (newest,) = tx.execute(
            "SELECT max(batch) FROM journal_batches JOIN journals USING (journal) WHERE origin = ?",
            (bytes.fromhex(origin),),
        ).fetchone()
    return -1 if newest is None else int(newest)


def _check_home(world: World, patient: Patient) -> None:
    """The home has every instance byte for byte, and every directive as it was left."""
    home = world.nodes[patient.home]
    for study, instances in patient.studies.items():
        if instances:
            held = home.content(f"/dicom-web/studies/{study}", _DICOM)
            for uid, content in instances.items():
                assert content in held, f"{home.name} has lost instance {uid}"
    on_record = {each["directive_id"]: each["status"] for each in _directives(home, patient)}
    for directive, revoked in patient.directives.items():
        assert directive in on_record, f"{home.name} has lost directive {directive}"
        assert not revoked or on_record[directive] == "revoked", "a revocation was lost"


_DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'


def _directives(home: Node, patient: Patient) -> list[dict[str, Any]]:
    asked = f"/consents?issuer={home.issuer}&patient_id={patient.patient_id}"
    found: list[dict[str, Any]] = home.get(asked)["consents"]
    return found


def _check_partner(world: World, patient: Patient, node: Node) -> None:
    """A partner finds exactly what the patient's home permits now, and gets nothing else."""
    home = world.nodes[patient.home]
    permitted = any(each["status"] == "active" for each in _directives(home, patient))
    own = {
        each["study_instance_uid"]
        for each in home.get("/studies")["studies"]
        if each["patient"]["patient_id"] == patient.patient_id
        and each["patient"]["issuer"] == home.issuer
        and each["origin"] is None
    }
    assert own >= {uid for uid, instances in patient.studies.items() if instances}
    expected = own if permitted else set()

    def found() -> set[str]:
        results = node.post("/search", patient.question)["results"]
        return {
            each["study_instance_uid"]
            for each in results
            if not each["local"] and (permitted or not each["held_here"])
        }

    wait_until(
        lambda: found() == expected,
        f"{node.name} does not find what {home.name} permits of {patient.patient_id}",
        PATIENCE_S,
        more=lambda: (
            f"expected {expected}, found {found()}\n"
            f"{node.post('/search', patient.question)['coverage']}\n{world.logs()}"
        ),
    )
    if not permitted:
        for study in own:
            _cannot_retrieve(node, home, study)


def _cannot_retrieve(node: Node, home: Node, study: str) -> None:
    if any(each["study_instance_uid"] == study for each in node.get("/studies")["studies"]):
        return  # It was handed over while that was permitted.
    body = {"peer_id": home.peer_id, "study_instance_uid": study, "purpose": "TREAT"}
    status, answer = node.api("POST", "/retrievals", body)
    if status < 400:
        ended = _ended(node, answer["retrieval_id"])
        assert ended["state"] in {"refused", "revoked"}, f"{study} was handed out: {ended}"


def _ended(node: Node, retrieval_id: str) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        now: dict[str, Any] = node.get(f"/retrievals/{retrieval_id}")
        return now if now["state"] in ENDED else None

    return wait_until(ended, f"{node.name}: a retrieval goes on for ever", PATIENCE_S) or {}


def _check_retrievals(world: World) -> None:
    """Every retrieval that was begun has ended; what came is what was sent; both have signed."""
    sent = {
        uid: content
        for patient in world.ledger.patients
        for instances in patient.studies.values()
        for uid, content in instances.items()
    }
    fetched: dict[int, set[str]] = {number: set() for number in range(len(world.nodes))}
    for number, retrieval_id in world.ledger.retrievals:
        node = world.nodes[number]
        ended = _ended(node, retrieval_id)
        world.ledger.count(f"retrieval {ended['state']}")
        study = ended["study_instance_uid"]
        fetched[number].add(study)
        if ended["state"] == "complete":
            held = node.content(f"/dicom-web/studies/{study}", _DICOM)
            came = [uid for uid, content in sent.items() if content in held]
            assert len(came) >= 1 or not any(uid.startswith(f"{study}.") for uid in sent)
            for uid in came:
                assert uid.startswith(f"{study}."), f"{uid} came with {study}"
    wait_until(
        lambda: not unsigned(world, fetched),
        "the receipts of the two sides differ",
        PATIENCE_S,
        more=lambda: f"{unsigned(world, fetched)}\n{world.logs()}",
    )


def unsigned(world: World, fetched: dict[int, set[str]]) -> list[str]:
    """Return the receipts that stand in one ledger alone."""
    given, received = set(), set()
    for node in world.nodes:
        for study in sorted(set().union(*fetched.values())):
            for each in node.get(f"/receipts?study_instance_uid={study}")["receipts"]:
                side = given if each["direction"] == "given" else received
                side.add((each["receipt_id"], study, each["sentence"]))
    return sorted(map(str, given ^ received))


# -- after they have stopped ----------------------------------------------------------------------


async def _compare_databases(nodes: list[Node]) -> None:
    """Compare every copy of every journal with the origin's own, entry by entry."""
    everyone = [keys.load(node.data, config.load(node.data)) for node in nodes]
    journals = {}
    for node, own in zip(nodes, everyone, strict=True):
        db = await Database.open(node.data / "index.db", own.index_key, INDEX_MIGRATIONS)
        journals[own.peer_id] = await db.read(lambda tx, own=own: _state(Held(tx, own.peer_id)))
        await db.close()
    for node, own in zip(nodes, everyone, strict=True):
        db = await Database.open(node.data / "partners.db", None, PARTNERS_MIGRATIONS)
        assert not await db.read(forks.all_of), f"{node.name} has seen a fork"
        for peer_id, frontier in (await db.read(frontiers.read)).items():
            assert frontier.incomplete_from is None, f"{node.name} lacks bodies"
            assert peer_id in journals
        for origin in _others(everyone, own):
            copy = await db.read(lambda tx, origin=origin: _state(Held(tx, origin)))
            assert copy == journals[origin], f"{node.name} has another journal than its origin"
        await db.close()


def _others(everyone: list[NodeKeys], own: NodeKeys) -> list[Any]:
    return [each.peer_id for each in everyone if each.peer_id != own.peer_id]


def _state(held: Held) -> tuple[Any, ...]:
    """Return a journal's head and its live entries, after the signed digest was computed anew."""
    head, entries = held.head(), live_entries(held)
    assert head is not None
    weights = (plain_hash(leaf(each) + each.seq.to_bytes(8, "big")) for each in entries)
    digest = sum(int.from_bytes(each, "big") for each in weights) % (1 << 256)
    assert len(entries) == head.live_count
    assert digest.to_bytes(32, "big") == head.state_digest
    return head, entries
