"""Attack: a partner wants an origin's search keys that nobody chose it to have, or to keep them.

It asks for keys, takes a box that was sealed to another partner, makes up keys in an origin's name,
sends keys that are none, keeps what it was given after it was taken back or after it was removed.
"""

from __future__ import annotations

from contextlib import suppress

import pytest

from peer.index import delegations, key_epochs, labels, nicknames
from peer.search import Mode
from protocol import delegation, digest, oprf
from protocol.announcement import CANARY
from protocol.delegation import AudienceKeys, DelegationBody
from protocol.errors import BadSignature, Expired, Malformed, WrongAddressee
from protocol.evaluation import EVERYONE
from protocol.matching.keys import query_keys
from protocol.messages import SearchKeys, decode, registered
from protocol.signing import sign
from tests.facilities import ASK_JANE, OFFICER, everyone_shares, facilities, named

UID, LATER = "1.2.840.9", "1.2.840.10"


@pytest.fixture
async def three(tmp_path):
    """Bob publishes; Alice is of his trust, Mallory is not."""
    async with facilities(tmp_path, "Alice", "Bob", "Mallory") as opened:
        alice, bob, _ = opened
        await bob.acquire(UID)
        await bob.consent(recipients=named(alice))
        await everyone_shares(*opened)
        yield opened


async def delegate(bob, partner, mode=Mode.DELEGATED):
    await bob.delegations.set_mode(partner.peer_id, mode, OFFICER)
    await bob.delegations.hand_out()


def held(facility, origin):
    return facility.delegations.held(origin.peer_id)


async def found_with(facility, origin, keys):
    """Return how many entries of `origin`, as it is held here, some keys open for Jane."""
    texts = [
        key.text for key in query_keys(ASK_JANE.person, nicknames.load()) if key.tier == "strong"
    ]
    made = delegation.outputs(keys, texts, (), CANARY)

    def work(tx):
        entries = [
            (each, output, position)
            for output in made.strong
            for position in range(64)
            for each in labels.find(tx, digest.slot_label(output, position), origin.peer_id)
        ]
        opened = 0
        for entry, output, position in entries:
            with suppress(BadSignature, Malformed):
                digest.open_slot(entry.body, output, position, entry.salt)
                opened += 1
        return opened

    return await facility.partners_db.read(work)


async def test_no_message_asks_for_keys(three):
    _, bob, mallory = three
    assert [name for name in registered() if "keys" in name] == ["search-keys"]
    # The only message about keys hands over the sender's own: it gets nothing back.
    await delegate(mallory, bob)
    assert held(mallory, bob) == ()
    assert await mallory.finds() == set()


async def test_only_the_audiences_of_the_partner_itself_are_handed_over(three):
    alice, bob, mallory = three
    await delegate(bob, mallory)
    await delegate(bob, alice)
    own = {facility.name: held(facility, bob) for facility in (alice, mallory)}
    assert own["Alice"][0] == own["Mallory"][0], "everyone's"
    assert own["Alice"][1] != own["Mallory"][1]
    assert await found_with(alice, bob, own["Alice"]) > 0
    assert await found_with(mallory, bob, own["Mallory"]) == 0, "it was shared with Alice alone"


async def test_a_box_for_another_partner_opens_for_nobody_else(three):
    alice, bob, mallory = three
    await delegate(bob, alice)
    box = decode(bob.links.sent[-1])[1].box
    partner = next(each for each in mallory.partners if each.peer_id == bob.peer_id)
    with pytest.raises(BadSignature):
        await mallory.delegations.receive(SearchKeys(box), partner)
    assert held(mallory, bob) == ()


def forged(author, addressee, keys, *, seed=None, to=None, issued_at=None):
    body = DelegationBody(
        1,
        author.peer_id,
        addressee.peer_id,
        author.clock.now() if issued_at is None else issued_at,
        keys,
    )
    box = delegation.seal_keys(
        (to or addressee).record.seal_public,
        bytes([7]) * 32,
        body,
        lambda payload: sign(seed or author.node_seed, delegation.DELEGATION_DOMAIN, payload),
    )
    return SearchKeys(box)


PAIR = tuple(AudienceKeys(1, oprf.scalar_from_random(b"k" * 64), b"\x01" + bytes(31)) for _ in "ab")


async def test_keys_in_another_origins_name_are_refused(three):
    alice, bob, mallory = three
    as_mallory = next(each for each in alice.partners if each.peer_id == mallory.peer_id)
    as_bob = next(each for each in alice.partners if each.peer_id == bob.peer_id)
    with pytest.raises(WrongAddressee):  # Bob's name under her own signature, over her own link
        await alice.delegations.receive(
            forged(bob, alice, PAIR, seed=mallory.node_seed), as_mallory
        )
    with pytest.raises(BadSignature):
        await alice.delegations.receive(forged(bob, alice, PAIR, seed=mallory.node_seed), as_bob)
    with pytest.raises(WrongAddressee):  # what Bob sealed for Mallory, sealed again for Alice
        await alice.delegations.receive(forged(bob, mallory, PAIR, to=alice), as_bob)
    assert held(alice, bob) == held(alice, mallory) == ()


async def test_keys_that_were_taken_back_do_not_return_by_an_old_box(three):
    alice, bob, _ = three
    as_bob = next(each for each in alice.partners if each.peer_id == bob.peer_id)
    with pytest.raises(Expired):
        await alice.delegations.receive(
            forged(bob, alice, PAIR, issued_at=bob.clock.now() - 601), as_bob
        )


@pytest.mark.parametrize(
    "keys",
    [
        PAIR[:1],
        (PAIR[0], AudienceKeys(1, bytes(32), PAIR[0].weak)),
        (PAIR[0], AudienceKeys(1, b"\xff" * 32, PAIR[0].weak)),
    ],
    ids=["one audience", "zero", "not reduced"],
)
async def test_what_is_no_key_is_refused_and_no_search_fails_for_it(three, keys):
    alice, bob, _ = three
    as_bob = next(each for each in alice.partners if each.peer_id == bob.peer_id)
    with pytest.raises(Malformed):
        await alice.delegations.receive(forged(bob, alice, keys), as_bob)
    assert await alice.finds() == {("Bob", UID)}


async def test_wrong_keys_are_not_used_and_the_origin_is_asked_instead(three):
    alice, bob, _ = three
    as_bob = next(each for each in alice.partners if each.peer_id == bob.peer_id)
    await alice.delegations.receive(forged(bob, alice, PAIR), as_bob)
    assert held(alice, bob) == PAIR
    assert await alice.finds() == {("Bob", UID)}, "the canary found the keys out"


async def test_keys_that_were_taken_back_open_nothing_that_is_published_since(three):
    alice, bob, mallory = three
    await delegate(bob, alice)
    kept = held(alice, bob)
    assert await found_with(alice, bob, kept) > 0
    await delegate(bob, alice, Mode.GUARDED)
    await bob.publish.look_at_all()
    await bob.acquire(LATER)
    await everyone_shares(alice, bob, mallory)
    assert await found_with(alice, bob, kept) == 0
    epochs = await bob.db.read(
        lambda tx: [key_epochs.present(tx, each) for each in (EVERYONE, alice.peer_id)]
    )
    assert epochs == [2, 2]


async def test_a_removed_partners_keys_open_nothing_new_and_it_gets_no_others(three):
    alice, bob, mallory = three
    await delegate(bob, mallory)
    kept = held(mallory, bob)
    await bob.acquire(LATER)
    await bob.consent()
    await everyone_shares(alice, bob, mallory)
    assert await found_with(mallory, bob, kept) > 0
    bob.remove(mallory)
    await bob.db.write(lambda tx: delegations.forget(tx, mallory.peer_id))
    await bob.delegations.load()
    await bob.publish.partner_changed(mallory.peer_id, "removed")
    await bob.publish.look_at_all()
    sent = len(bob.links.sent)
    await bob.delegations.hand_out()
    assert len(bob.links.sent) == sent, "nothing is sent to who was removed"
    # Were it to get the new entries from somebody else, its keys would open none of them.
    await bob.share(mallory)
    assert await found_with(mallory, bob, kept) == 0


async def test_a_partner_that_is_paired_anew_begins_guarded(three):
    _, bob, mallory = three
    await delegate(bob, mallory)
    await bob.db.write(lambda tx: delegations.forget(tx, mallory.peer_id))
    await bob.delegations.load()
    assert bob.delegations.mode(mallory.peer_id) is Mode.GUARDED
