"""Eve, a partner herself, learns the id of a grant that Bob gave Alice, or gets hold of the grant.

What Eve could do without the defence: fetch ciphertext that was never meant for her, replay Alice's
request as her own, open the keys in Alice's grant, or sign off the transfer in Alice's name.
"""

from __future__ import annotations

import pytest

from peer.index import grants
from peer.retrieve.leave import Promise, ask_leave
from protocol.errors import BadSignature, Refusal, Replayed, WrongAddressee
from protocol.grant import RECEIPT_DOMAIN, ReceiptBody, SignedGrant, open_keys
from protocol.limits import GRANT_ANSWER_BYTES
from protocol.messages import GrantRequest, ReceiptMessage
from protocol.records import from_bytes
from protocol.statements import sign_statement
from tests.facilities import CLINICIAN
from tests.transfers import STUDY, hospitals, ready


@pytest.fixture
async def three(tmp_path):
    async with hospitals(tmp_path, "Alice", "Bob", "Eve") as opened:
        alice, bob, _ = opened
        await ready(alice, bob, count=1)
        yield opened


def seen_by(bob, other):
    return next(partner for partner in bob.partners if partner.peer_id == other.peer_id)


def promise(prior):
    digest = prior.digest
    return Promise(digest.retrieve_handle, digest.manifest_root, digest.manifest_version)


async def alices_leave(alice, bob):
    """Return Alice's grant, and the messages that Eve would give much for."""
    wire = []
    request = alice.links.request

    async def listen(peer_id, message, timeout_s):
        answer = await request(peer_id, message, timeout_s)
        wire.append((message, answer))
        return answer

    alice.links.request = listen
    prior = await alice.search.prior(bob.peer_id, STUDY)
    leave = await ask_leave(
        alice.links,
        alice.reciprocity,
        alice.keys,
        alice.clock,
        partner=seen_by(alice, bob),
        promise=promise(prior),
        actor=CLINICIAN,
        within_s=30,
    )
    return leave, *wire[0]


async def test_ranges_are_served_to_the_partner_of_the_grant_alone(three):
    alice, bob, eve = three
    leave, _, _ = await alices_leave(alice, bob)
    grant_id, (pack_id,) = leave.grant.grant_id, leave.manifest.packs
    read = bob.retrieve.origin.read_range
    assert len(await read(seen_by(bob, alice), grant_id, pack_id, 0, 100)) == 100

    for target in (pack_id, grant_id):
        with pytest.raises(Refusal) as caught:
            await read(seen_by(bob, eve), grant_id, target, 0, 100)
        assert caught.value.code == "not-granted"
    misuse = await bob.actions("release")
    assert {record["partner"] for record in misuse} == {eve.peer_id.hex()}
    assert {record["outcome"] for record in misuse} == {"refused"}


async def test_an_unknown_grant_and_anothers_grant_look_the_same(three):
    alice, bob, eve = three
    leave, _, _ = await alices_leave(alice, bob)
    answers = []
    for grant_id in (leave.grant.grant_id, b"no such grant..."):
        with pytest.raises(Refusal) as caught:
            await bob.retrieve.origin.read_range(
                seen_by(bob, eve), grant_id, leave.manifest.packs[0], 0, 100
            )
        answers.append((caught.value.code, caught.value.reason, caught.value.remedy))
    assert answers[0] == answers[1]


async def test_a_grant_serves_its_own_packs_and_no_more_of_them_than_it_names(three):
    alice, bob, _ = three
    await bob.scan("1.2.3.4", count=1)
    leave, _, _ = await alices_leave(alice, bob)
    (pack_id,) = leave.manifest.packs
    (other,) = bob.store.sizes().keys() - {pack_id}
    read, me = bob.retrieve.origin.read_range, seen_by(bob, alice)
    with pytest.raises(Refusal) as caught:
        await read(me, leave.grant.grant_id, other, 0, 100)
    assert caught.value.code == "not-granted"
    size = bob.store.sizes()[pack_id]
    for start, end in [(0, 0), (-1, 10), (10, 5), (size - 1, size + 1), (0, 2**40)]:
        with pytest.raises(Refusal) as caught:
            await read(me, leave.grant.grant_id, pack_id, start, end)
        assert caught.value.code == "no-such-range"


async def test_a_request_cannot_be_replayed_by_another_nor_by_its_author(three):
    alice, bob, eve = three
    _, request, _ = await alices_leave(alice, bob)
    assert isinstance(request, GrantRequest)
    with pytest.raises(BadSignature):
        await bob.retrieve.origin.grant(request, seen_by(bob, eve))
    with pytest.raises(Replayed):
        await bob.retrieve.origin.grant(request, seen_by(bob, alice))
    with pytest.raises(WrongAddressee):
        await eve.retrieve.origin.grant(request, seen_by(eve, alice))


async def test_the_keys_in_a_grant_open_for_its_addressee_alone(three):
    alice, bob, eve = three
    leave, _, answer = await alices_leave(alice, bob)
    signed = from_bytes(SignedGrant, answer.grant, GRANT_ANSWER_BYTES)
    packs = leave.manifest.packs
    assert open_keys(alice.keys.seal_secret, signed, leave.grant, packs) == leave.keys
    with pytest.raises(BadSignature):
        open_keys(eve.keys.seal_secret, signed, leave.grant, packs)


async def test_a_receipt_from_another_partner_counts_for_nothing(three):
    alice, bob, eve = three
    leave, _, _ = await alices_leave(alice, bob)
    body = ReceiptBody(
        version=1,
        author=eve.peer_id,
        addressee=bob.peer_id,
        issued_at=eve.clock.now(),
        grant_id=leave.grant.grant_id,
        manifest_root=leave.grant.manifest_root,
        outcome="verified",
        instances=1,
        verified=1,
        missing=(),
    )
    receipt = ReceiptMessage(sign_statement(eve.keys.node_seed, RECEIPT_DOMAIN, body))
    with pytest.raises(Refusal) as caught:
        await bob.retrieve.origin.receipt(receipt, seen_by(bob, eve))
    assert caught.value.code == "not-granted"
    with pytest.raises(BadSignature):
        await bob.retrieve.origin.receipt(receipt, seen_by(bob, alice))
    (grant,) = await bob.db.read(lambda tx: grants.grants_of(tx, STUDY))
    assert grant.receipt is None


async def test_a_study_for_one_partner_is_not_granted_to_another_who_learns_its_handle(tmp_path):
    from tests.facilities import everyone_shares, named

    async with hospitals(tmp_path, "Alice", "Bob", "Eve") as (alice, bob, eve):
        await bob.scan(count=1)
        await bob.consent(recipients=named(alice))
        await everyone_shares(alice, bob, eve)
        assert await alice.finds()
        assert not await eve.finds()
        prior = await alice.search.prior(bob.peer_id, STUDY)
        with pytest.raises(Refusal) as caught:
            await ask_leave(
                eve.links,
                eve.reciprocity,
                eve.keys,
                eve.clock,
                partner=seen_by(eve, bob),
                promise=promise(prior),
                actor=CLINICIAN,
                within_s=30,
            )
        assert caught.value.code == "recipient"
        assert caught.value.remedy
