"""Pairing between real nodes: over TLS, with everything durable on both sides."""

from __future__ import annotations

import aiohttp
import pytest
from structlog.testing import capture_logs

from peer.config.doors import Agreement
from peer.errors import Conflict, NotFound
from peer.index import partners as rows
from peer.partners.calls import JOIN_PATH
from protocol.errors import Expired, Malformed, Refusal
from tests.unit.federation.facility import OPERATOR, Facility, linked, pair, until


async def test_two_facilities_become_partners(alice, bob):
    await pair(alice, bob)
    assert alice.knows(bob).agreement == bob.knows(alice).agreement
    assert alice.knows(bob).name == "bob"


async def test_each_knows_what_it_offers_and_what_it_is_offered(tmp_path):
    inviters = Agreement(daily_searches=70, modalities=("CT",)).terms
    joiners = Agreement(daily_searches=0, daily_studies=5, purposes=("TREAT",)).terms
    async with (
        Facility.open("Dora", tmp_path, terms=inviters) as dora,
        Facility.open("Emil", tmp_path, terms=joiners) as emil,
    ):
        await pair(dora, emil)
        assert dora.knows(emil).our_terms == emil.knows(dora).their_terms == inviters
        assert emil.knows(dora).our_terms == dora.knows(emil).their_terms == joiners
    assert (inviters.daily_searches, joiners.daily_searches) == (70, None)
    assert Agreement().terms.daily_searches == 1000


async def test_the_states_tell_people_whom_to_wait_for(alice, bob):
    await pair(alice, bob, confirm=False)
    assert "both" in alice.knows(bob).sentence
    await alice.partners.confirm(bob.peer_id, OPERATOR)
    assert alice.knows(bob).sentence == "The other side has not confirmed yet."
    await until(lambda: bob.knows(alice).confirmed_there)
    assert bob.knows(alice).sentence.startswith("You have not confirmed yet")
    assert not alice.knows(bob).active
    assert not bob.partners.active()


async def test_an_outbound_only_joiner_learns_of_the_later_confirmation(alice, carol):
    await pair(alice, carol, confirm=False)
    await carol.partners.confirm(alice.peer_id, OPERATOR)
    await until(lambda: alice.knows(carol).confirmed_there)
    await alice.partners.confirm(carol.peer_id, OPERATOR)
    await until(lambda: carol.knows(alice).active and alice.knows(carol).active)


async def test_an_outbound_only_facility_cannot_invite(carol):
    with pytest.raises(Refusal) as refused:
        await carol.partners.invite(OPERATOR)
    assert refused.value.code == "outbound-only"


async def test_typed_words_are_compared(alice, bob):
    await pair(alice, bob, confirm=False)
    with pytest.raises(Refusal) as refused:
        await alice.partners.confirm(bob.peer_id, OPERATOR, "zoo " * 6)
    assert refused.value.code == "wrong-words"
    assert not alice.knows(bob).confirmed_here


async def test_confirming_twice_is_no_harm(alice, bob):
    await pair(alice, bob)
    await alice.partners.confirm(bob.peer_id, OPERATOR)
    assert alice.knows(bob).active


async def test_a_confirmation_survives_a_restart(alice, bob):
    await pair(alice, bob, confirm=False)
    await bob.stop()
    await alice.partners.confirm(bob.peer_id, OPERATOR)
    await bob.start()
    assert bob.knows(alice).words == alice.knows(bob).words
    await bob.partners.confirm(alice.peer_id, OPERATOR)
    await until(lambda: bob.knows(alice).active and alice.knows(bob).active, 15)


async def test_an_unreachable_inviter_is_named(alice, bob):
    invitation, _ = await alice.partners.invite(OPERATOR)
    await alice.pairing.stop()
    with pytest.raises(Refusal) as refused:
        await bob.partners.join(invitation, OPERATOR)
    assert refused.value.code == "unreachable"
    assert str(alice.pairing_port) in str(refused.value)
    assert bob.knows(alice) is None


async def test_a_lost_answer_does_not_burn_the_invitation(alice, bob, monkeypatch):
    """The inviter completes the proof, and its answer never arrives."""
    invitation, _ = await alice.partners.invite(OPERATOR)
    calls = bob.partners.pairings._calls
    lost = []
    send = type(calls).send

    async def lossy(self, url, path, certificate, message, kind):
        answer = await send(self, url, path, certificate, message, kind)
        if path.endswith("reveal") and not lost:
            lost.append(answer)
            raise Refusal("no-answer", "lost")
        return answer

    monkeypatch.setattr(type(calls), "send", lossy)
    await bob.partners.join(invitation, OPERATOR)
    assert lost, "the first answer was lost"
    await alice.partners.confirm(bob.peer_id, OPERATOR)
    await bob.partners.confirm(alice.peer_id, OPERATOR)
    await until(lambda: alice.knows(bob).active and bob.knows(alice).active)


async def test_a_damaged_or_expired_invitation_is_not_dialled(alice, bob):
    invitation, expires_at = await alice.partners.invite(OPERATOR, 60)
    with pytest.raises(Malformed):
        await bob.partners.join(invitation[:-1], OPERATOR)
    bob.clock.advance(expires_at - bob.clock.now())
    with pytest.raises(Expired):
        await bob.partners.join(invitation, OPERATOR)


async def test_declining_tells_the_other_side(alice, bob):
    await pair(alice, bob, confirm=False)
    await alice.partners.remove(bob.peer_id, OPERATOR, "wrong number")
    await bob.partners.confirm(alice.peer_id, OPERATOR)
    await until(lambda: bob.partners.pairings.trouble(alice.peer_id) is not None)
    assert bob.partners.pairings.trouble(alice.peer_id).code == "removed"
    assert not bob.knows(alice).active


async def test_a_removed_partner_comes_back_by_a_new_pairing_alone(alice, bob):
    await pair(alice, bob)
    await linked(alice, bob)
    await alice.partners.remove(bob.peer_id, OPERATOR, "contract ended")
    await until(lambda: bob.knows(alice).state == "removed")
    old = alice.knows(bob).agreement.pairing_id
    assert await alice.db.read(lambda tx: rows.is_denied(tx, old))
    with pytest.raises(Refusal):
        await alice.partners.accept_record(bob.keys.record)
    with pytest.raises(Conflict):
        await alice.partners.confirm(bob.peer_id, OPERATOR)
    await pair(alice, bob)
    assert alice.knows(bob).agreement.pairing_id != old
    assert await alice.db.read(lambda tx: rows.is_denied(tx, old)), "the deny set only grows"


async def test_partners_do_not_pair_twice(alice, bob):
    await pair(alice, bob)
    invitation, _ = await alice.partners.invite(OPERATOR)
    with pytest.raises(Refusal) as refused:
        await bob.partners.join(invitation, OPERATOR)
    assert refused.value.code == "already-partners"


async def test_removing_a_stranger_is_an_error(alice, bob):
    with pytest.raises(NotFound):
        await alice.partners.remove(bob.peer_id, OPERATOR, "")


async def test_a_certificate_belongs_to_one_partner(alice, bob, tmp_path):
    """Eve brings a key record with Bob's certificate, so that Alice would take Bob for her."""
    from dataclasses import replace

    from peer.keys import read_root_key
    from protocol.keyrecord import sign_record

    await pair(alice, bob)
    async with Facility.open("eve", tmp_path) as eve:
        stolen = replace(eve.keys.key_record, tls_certificate=bob.keys.tls_certificate_der)
        signed = sign_record(read_root_key(eve.folder / "root.key"), stolen)
        eve.keys.record = signed
        invitation, _ = await alice.partners.invite(OPERATOR)
        with pytest.raises(Refusal) as refused:
            await eve.partners.join(invitation, OPERATOR)
    assert refused.value.code == "certificate-taken"
    assert alice.knows(eve) is None


async def test_every_step_is_audited(alice, bob):
    await pair(alice, bob)
    await alice.partners.remove(bob.peer_id, OPERATOR, "contract ended")
    records = await alice.db.read(
        lambda tx: [row["record"] for row in tx.execute("SELECT record FROM audit ORDER BY number")]
    )
    for action in ("invite", "pair", "partner-confirm", "partner-remove"):
        assert any(f'"{action}"' in record for record in records), f"{action} is not on record"


async def test_a_stranger_who_errs_again_and_again_fills_no_log(alice):
    url = f"https://127.0.0.1:{alice.pairing_port}{JOIN_PATH}"
    async with aiohttp.ClientSession() as stranger:
        with capture_logs() as lines:
            for _ in range(5):
                async with stranger.post(url, data=b"no message", ssl=False) as answer:
                    assert answer.status == 400
    assert [line["event"] for line in lines] == ["pairing-refused"]
