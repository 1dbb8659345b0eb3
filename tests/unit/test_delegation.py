"""Delegated mode: a partner that holds an origin's search keys finds the same without asking."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from peer.errors import NotFound
from peer.index import delegations, journal
from peer.index.journal import Halt
from peer.search import Mode
from protocol import delegation, evaluation
from protocol.agreement import Terms
from protocol.announcement import CANARY
from protocol.delegation import DelegationBody
from protocol.evaluation import EVERYONE, Tier
from protocol.messages import Evaluate, SearchKeys, decode
from protocol.sealing import exchange_public_key
from protocol.signing import public_key, sign
from tests.facilities import JANE, OFFICER, everyone_shares, facilities, named

VECTORS = Path(__file__).parents[1] / "vectors" / "delegation.json"
MASTER, ORIGIN, PARTNER = bytes(range(32)), bytes([1]) * 32, bytes([2]) * 32
PARTNER_SEALS, EPHEMERAL = bytes([3]) * 32, bytes([4]) * 32
NOW = 1_800_000_000
STUDY, LATER = "1.2.3.1", "1.2.3.2"


def body_of(keys):
    return DelegationBody(1, public_key(ORIGIN), public_key(PARTNER), NOW, keys)


def sealed(body):
    return delegation.seal_keys(
        exchange_public_key(PARTNER_SEALS),
        EPHEMERAL,
        body,
        lambda payload: sign(ORIGIN, delegation.DELEGATION_DOMAIN, payload),
    )


def vectors():
    keys = delegation.keys_for(MASTER, public_key(PARTNER), [(3, 5)])
    return {
        "about": "The search keys of an origin for one partner, and the box in which they travel.",
        "master": MASTER.hex(),
        "origin_seed": ORIGIN.hex(),
        "partner_seed": PARTNER.hex(),
        "partner_seal_secret": PARTNER_SEALS.hex(),
        "ephemeral_secret": EPHEMERAL.hex(),
        "issued_at": NOW,
        "keys": [[each.key_epoch, each.strong.hex(), each.weak.hex()] for each in keys],
        "box": sealed(body_of(keys)).hex(),
        "box_without_keys": sealed(body_of(())).hex(),
    }


def test_vectors():
    assert vectors() == json.loads(VECTORS.read_text())


def test_the_golden_box_is_read():
    golden = json.loads(VECTORS.read_text())
    for name, count in (("box", 2), ("box_without_keys", 0)):
        body = delegation.open_keys(
            PARTNER_SEALS,
            bytes.fromhex(golden[name]),
            key=public_key(ORIGIN),
            author=public_key(ORIGIN),
            me=public_key(PARTNER),
            now=NOW,
        )
        shown = [[each.key_epoch, each.strong.hex(), each.weak.hex()] for each in body.keys]
        assert shown == golden["keys"][:count]


def test_outputs_are_those_that_asking_gives():
    keys = delegation.keys_for(MASTER, public_key(PARTNER), [(3, 5)])
    made = delegation.outputs(keys, ("a", "b"), ("c",), CANARY)
    question = evaluation.ask(("a", "b", CANARY), bytes(range(256)) * 2)
    for place, (audience, epoch) in enumerate(((EVERYONE, 3), (public_key(PARTNER), 5))):
        key = evaluation.evaluation_key(MASTER, Tier.STRONG, audience, epoch)
        *asked, canary = evaluation.outputs(question, evaluation.answer(key, question.points))
        assert made.strong[2 * place : 2 * place + 2] == tuple(asked)
        if not place:
            assert (made.key_epoch, made.canary) == (3, canary)
        weak = evaluation.evaluation_key(MASTER, Tier.WEAK, audience, epoch)
        assert made.weak[place] == evaluation.output(weak, "c")


def test_keys_of_past_epochs_make_their_outputs_too_and_none_is_made_twice():
    keys = delegation.keys_for(MASTER, public_key(PARTNER), [(3, 5), (2, 5)])
    made = delegation.outputs(keys, ("a",), (), CANARY)
    strong = [
        evaluation.output(evaluation.evaluation_key(MASTER, Tier.STRONG, audience, epoch), "a")
        for audience, epoch in ((EVERYONE, 3), (public_key(PARTNER), 5), (EVERYONE, 2))
    ]
    assert made.strong == tuple(strong)
    assert made.key_epoch == 3


# -- between facilities ---------------------------------------------------------------------------


@pytest.fixture
async def three(tmp_path):
    """Bob has published a study for everyone."""
    async with facilities(tmp_path, "Alice", "Bob", "Carol") as opened:
        alice, bob, _ = opened
        await bob.acquire(STUDY)
        await bob.consent()
        await everyone_shares(*opened)
        assert await alice.db.read(delegations.held) == []
        yield opened


async def delegate(bob, alice, mode=Mode.DELEGATED):
    await bob.delegations.set_mode(alice.peer_id, mode, OFFICER, "one trust")
    await bob.delegations.hand_out()


def asked(facility):
    """Return how many blind questions a facility has put."""
    return sum(isinstance(decode(each)[1], Evaluate) for each in facility.links.sent)


async def test_a_delegated_origin_is_searched_without_asking_and_while_it_is_offline(three):
    alice, bob, carol = three
    await delegate(bob, alice)
    for one in (alice, carol):
        one.links.offline = {bob.peer_id}
    answer = await alice.find()
    assert [each.study_instance_uid for each in answer.results] == [STUDY]
    assert bob.peer_id in {each.peer_id for each in answer.coverage.searched}
    assert await carol.finds() == set(), "nobody delegated to Carol"
    assert asked(alice) == 1, "Carol alone was asked"


async def test_what_is_shared_with_the_partner_alone_is_found_too(three):
    alice, bob, carol = three
    only_alice = replace(JANE, patient_id="MRN-2")
    await bob.acquire(LATER, only_alice)
    await bob.consent(only_alice, recipients=named(alice))
    await everyone_shares(*three)
    await delegate(bob, alice)
    await delegate(bob, carol)
    for one in (alice, carol):
        one.links.offline = {bob.peer_id}
    assert await alice.finds() == {("Bob", STUDY), ("Bob", LATER)}
    assert await carol.finds() == {("Bob", STUDY)}


async def test_taken_back_everything_is_published_under_other_keys(three):
    alice, bob, _ = three
    await delegate(bob, alice)
    await delegate(bob, alice, Mode.GUARDED)
    assert await alice.db.read(delegations.held) == []
    assert alice.delegations.mode_there(bob.peer_id) is Mode.GUARDED
    await bob.publish.look_at_all()
    await everyone_shares(*three)
    assert await alice.finds() == {("Bob", STUDY)}
    assert asked(alice) == 2, "Bob is asked again"


async def test_new_keys_are_brought_when_an_epoch_begins_and_asking_fills_the_gap(three):
    alice, bob, carol = three
    await delegate(bob, alice)
    bob.remove(carol)
    await bob.publish.partner_changed(carol.peer_id, "removed")
    await bob.publish.look_at_all()
    await bob.share(alice)
    assert ("Bob", STUDY) in await alice.finds()
    assert asked(alice) == 2, "the keys that Alice holds do not fit any more"
    await bob.delegations.hand_out()
    alice.links.sent.clear()
    assert ("Bob", STUDY) in await alice.finds()
    assert asked(alice) == 1, "Carol alone"


async def test_while_patients_move_to_new_keys_the_partner_holds_those_of_both_epochs(three):
    alice, bob, carol = three
    await delegate(bob, alice)
    bob.remove(carol)
    await bob.db.write(lambda tx: bob.publish._reconcile(tx, []))  # The first step of many.
    await bob.acquire(LATER, replace(JANE, patient_id="MRN-2"))
    await bob.consent(replace(JANE, patient_id="MRN-2"))
    await bob.delegations.hand_out()
    assert [each.key_epoch for each in alice.delegations.held(bob.peer_id)] == [2, 1, 1, 1]
    await bob.share(alice)
    alice.links.offline = {bob.peer_id}
    assert await alice.finds() == {("Bob", STUDY), ("Bob", LATER)}


async def test_keys_are_sent_until_they_are_confirmed_and_not_again(three):
    alice, bob, _ = three
    bob.links.offline = {alice.peer_id}
    await delegate(bob, alice)
    assert not bob.delegations.to_json(alice.peer_id)["confirmed"]
    bob.links.offline = set()
    for _ in range(2):
        await bob.delegations.hand_out()
    assert len(bob.links.sent) == 1
    assert bob.delegations.to_json(alice.peer_id)["confirmed"]


async def test_both_sides_remember_after_a_restart(three):
    alice, bob, _ = three
    await delegate(bob, alice)
    for one in (alice, bob):
        one.delegations._given, one.delegations._held = {}, {}
        await one.delegations.load()
    assert bob.delegations.mode(alice.peer_id) is Mode.DELEGATED
    assert alice.delegations.mode_there(bob.peer_id) is Mode.DELEGATED


async def test_a_partner_that_was_restored_is_brought_its_keys_again(three):
    alice, bob, _ = three
    await delegate(bob, alice)
    await alice.db.write(lambda tx: tx.execute("DELETE FROM delegated_keys"))
    await alice.delegations.load()
    assert alice.delegations.mode_there(bob.peer_id) is Mode.GUARDED
    bob.delegations._connected(alice.peer_id)
    await bob.delegations.hand_out()
    assert alice.delegations.mode_there(bob.peer_id) is Mode.DELEGATED
    sent = len(bob.links.sent)
    await bob.delegations.hand_out()
    assert len(bob.links.sent) == sent, "once for a link"


async def test_keys_that_were_taken_back_meanwhile_are_taken_from_a_restored_partner(three):
    alice, bob, _ = three
    await delegate(bob, alice)
    (held,) = await alice.db.read(delegations.held)
    await delegate(bob, alice, Mode.GUARDED)
    await alice.db.write(lambda tx: delegations.hold(tx, held))
    await alice.delegations.load()
    assert alice.delegations.mode_there(bob.peer_id) is Mode.DELEGATED
    bob.delegations._connected(alice.peer_id)
    await bob.delegations.hand_out()
    assert alice.delegations.mode_there(bob.peer_id) is Mode.GUARDED


async def test_an_index_that_was_set_back_hands_out_nothing(three):
    alice, bob, _ = three
    await delegate(bob, alice)
    await bob.db.write(lambda tx: journal.halt(tx, Halt.BEHIND))
    await bob.delegations.load()
    assert bob.delegations.mode(alice.peer_id) is Mode.GUARDED
    await bob.delegations.hand_out()
    assert alice.delegations.mode_there(bob.peer_id) is Mode.GUARDED
    said = [each["detail"] for each in await records(bob, "search-mode")]
    assert said[-1] == {"mode": "guarded", "reason": "The index was set back."}
    await bob.db.write(journal.resume)
    await bob.publish.look_at_all()
    await everyone_shares(*three)
    assert await alice.finds() == {("Bob", STUDY)}


async def test_it_is_on_record_at_both_sides(three):
    alice, bob, _ = three
    await delegate(bob, alice)
    await alice.find()
    await delegate(bob, alice, Mode.GUARDED)
    assert [each["detail"]["mode"] for each in await records(bob, "search-mode")] == [
        "delegated",
        "guarded",
    ]
    assert [each["detail"]["mode"] for each in await records(alice, "search-keys")] == [
        "delegated",
        "guarded",
    ]
    (search,) = await records(alice, "search")
    assert search["detail"]["delegated"] == 1


async def records(facility, action):
    found = [json.loads(each) async for each in facility.audit.export(None, None)]
    return [each for each in found if each["action"] == action]


async def test_a_purpose_that_the_agreement_does_not_cover_is_left_to_the_origin(tmp_path):
    async with facilities(tmp_path, "Alice") as (alice,), facilities(tmp_path, "Bob") as (bob,):
        bob.meet(alice, Terms(purposes=("HRESCH",)))
        await everyone_shares(alice, bob)
        await delegate(bob, alice)
        (missing,) = (await alice.find()).coverage.not_searched
        assert missing.code == "refused"


async def test_nobody_but_a_partner_is_given_keys(three):
    _, bob, _ = three
    with pytest.raises(NotFound):
        await bob.delegations.set_mode(bytes(32), Mode.DELEGATED, OFFICER)


async def test_each_mode_says_in_a_sentence_what_it_means(three):
    alice, bob, _ = three
    assert "asks this facility for each search" in bob.delegations.to_json(alice.peer_id)["effect"]
    await delegate(bob, alice)
    effect = bob.delegations.to_json(alice.peer_id)["effect"]
    assert "could list every patient" in effect
    assert SearchKeys in alice.links.handlers


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(vectors(), indent=1) + "\n")
