"""Two people who compare six words know that nobody sits between their nodes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mnemonic import Mnemonic

from protocol.agreement import Terms, read_terms
from protocol.errors import (
    BadSignature,
    Expired,
    Malformed,
    Refusal,
    RemoteProtocolError,
    UnknownMessage,
    WrongAddressee,
)
from protocol.invitation import Invitation, read_invitation, write_invitation
from protocol.keyrecord import KeyRecord, sign_record
from protocol.limits import INVITATION_ATTEMPTS
from protocol.nodekeys import only_key
from protocol.pairing import (
    Agreed,
    Join,
    Joined,
    Side,
    Stage,
    agreed,
    agreement_of,
    begin_join,
    confirm,
    open_offer,
    receive_agreed,
    receive_join,
    receive_joined,
    receive_reveal,
    words,
)
from protocol.records import from_bytes, to_bytes
from protocol.signing import public_key

NOW = 1_800_000_000
VECTORS = json.loads((Path(__file__).parent.parent / "vectors/pairing.json").read_text("utf-8"))
LIST = Mnemonic("english").wordlist
bytes16, bytes32 = st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32)


class Facility:
    def __init__(self, number, url="https://h.example:8441", terms=None):
        self.root, self.node = bytes([number]) * 32, bytes([number, 1]) * 16
        self.peer_id = public_key(self.root)
        record = KeyRecord(
            1,
            self.peer_id,
            1,
            f"Facility {number}",
            only_key(public_key(self.node)),
            bytes([number]) * 32,
            b"certificate",
            url,
            url,
            NOW,
            NOW + 730 * 86_400,
        )
        self.side = Side(sign_record(self.root, record), to_bytes(terms or Terms()))

    def invites(self, secret=b"s" * 16):
        invitation = Invitation(1, self.peer_id, secret, NOW + 600, ("https://h.example:8442",))
        return invitation, open_offer(invitation)


ALICE, BOB, EVE = (
    Facility(1, terms=Terms(modalities=("CT",), daily_studies=40)),
    Facility(2),
    Facility(9),
)


def pair(inviter, joiner, nonce_i=b"i" * 32, nonce_j=b"j" * 32, secret=b"s" * 16):
    invitation, offer = inviter.invites(secret)
    join = begin_join(invitation, joiner.side, nonce_j)
    offer, joined = receive_join(offer, join, inviter.side, nonce_i, NOW)
    theirs, reveal = receive_joined(invitation, join, nonce_j, joined, joiner.node, NOW)
    offer, ours = receive_reveal(offer, reveal, NOW)
    return offer, ours, theirs, reveal


# -- the invitation -------------------------------------------------------------------------------


def test_an_invitation_survives_line_breaks_blanks_and_capitals():
    invitation, _ = ALICE.invites()
    text = write_invitation(invitation)
    wrapped = "\n ".join(text[i : i + 40] for i in range(0, len(text), 40))
    assert read_invitation(f"  {wrapped.upper()}\n", NOW) == invitation


@given(st.data())
def test_a_mistyped_invitation_is_recognised(data):
    text = write_invitation(ALICE.invites()[0])
    position = data.draw(st.integers(len("openpriors1:"), len(text) - 2))
    wrong = data.draw(
        st.sampled_from("abcdefghijklmnopqrstuvwxyz234567").filter(
            lambda character: character != text[position]
        )
    )
    with pytest.raises(Malformed):
        read_invitation(text[:position] + wrong + text[position + 1 :], NOW)


@given(st.text(max_size=200))
def test_any_text_is_an_invitation_or_malformed(text):
    with pytest.raises(Malformed):
        read_invitation(text, NOW)


def test_a_half_copied_invitation_is_recognised():
    text = write_invitation(ALICE.invites()[0])
    for length in range(len(text)):
        with pytest.raises(Malformed):
            read_invitation(text[:length], NOW)


def test_an_expired_invitation_is_not_dialled():
    text = write_invitation(ALICE.invites()[0])
    with pytest.raises(Expired):
        read_invitation(text, NOW + 600)


def test_an_invitation_of_a_newer_release_says_so():
    newer = replace(ALICE.invites()[0], version=2)
    with pytest.raises(UnknownMessage):
        read_invitation(write_invitation(newer), NOW)


# -- the words ------------------------------------------------------------------------------------


@given(bytes32, bytes32, bytes16)
def test_both_screens_show_the_same_six_words(nonce_i, nonce_j, secret):
    _, ours, theirs, _ = pair(ALICE, BOB, nonce_i, nonce_j, secret)
    assert words(ours, LIST) == words(theirs, LIST)
    assert len(words(ours, LIST)) == 6
    assert ours.agreement == theirs.agreement, "both must sign the same bytes"
    assert (ours.partner, theirs.partner) == (BOB.peer_id, ALICE.peer_id)


@given(bytes32, bytes32)
def test_the_words_depend_on_both_nonces(nonce, other):
    if nonce == other:
        return
    texts = {
        words(pair(ALICE, BOB, *nonces)[1], LIST)
        for nonces in [(nonce, nonce), (nonce, other), (other, nonce), (other, other)]
    }
    assert len(texts) == 4


@given(bytes32, bytes32, bytes32, bytes32)
def test_a_man_in_the_middle_makes_the_words_differ(nonce_a, nonce_b, first, second):
    """Eve has replaced the invitation by her own, knows both secrets, and plays both roles."""
    genuine, offer = ALICE.invites()
    forged = replace(EVE.invites()[0], secret=genuine.secret)
    join_b = begin_join(forged, BOB.side, nonce_b)
    join_e = begin_join(genuine, EVE.side, first)
    offer, joined_a = receive_join(offer, join_e, ALICE.side, nonce_a, NOW)
    _, joined_e = receive_join(open_offer(forged), join_b, EVE.side, second, NOW)
    at_bob, _ = receive_joined(forged, join_b, nonce_b, joined_e, BOB.node, NOW)
    _, reveal_e = receive_joined(genuine, join_e, first, joined_a, EVE.node, NOW)
    _, at_alice = receive_reveal(offer, reveal_e, NOW)
    assert words(at_alice, LIST) != words(at_bob, LIST)


def test_eve_cannot_open_her_commitment_to_another_nonce():
    invitation, offer = ALICE.invites()
    join = begin_join(invitation, EVE.side, b"1" * 32)
    offer, joined = receive_join(offer, join, ALICE.side, b"a" * 32, NOW)
    _, reveal = receive_joined(invitation, join, b"2" * 32, joined, EVE.node, NOW)
    with pytest.raises(BadSignature):
        receive_reveal(offer, reveal, NOW)


def test_eve_cannot_join_with_bobs_key_record():
    invitation, offer = ALICE.invites()
    join = begin_join(invitation, BOB.side, b"1" * 32)
    offer, joined = receive_join(offer, join, ALICE.side, b"a" * 32, NOW)
    _, reveal = receive_joined(invitation, join, b"1" * 32, joined, EVE.node, NOW)
    with pytest.raises(BadSignature):
        receive_reveal(offer, reveal, NOW)


def test_changed_terms_break_the_proof():
    invitation, offer = ALICE.invites()
    join = begin_join(invitation, BOB.side, b"1" * 32)
    terms = to_bytes(Terms(daily_searches=1))
    altered = replace(join, side=replace(join.side, terms=terms))
    with pytest.raises(BadSignature):
        receive_join(offer, altered, ALICE.side, b"a" * 32, NOW)


def test_the_inviter_must_be_the_one_in_the_invitation():
    invitation, _ = ALICE.invites()
    join = begin_join(invitation, BOB.side, b"1" * 32)
    _, joined = receive_join(open_offer(invitation), join, EVE.side, b"e" * 32, NOW)
    with pytest.raises(BadSignature):
        receive_joined(invitation, join, b"1" * 32, joined, BOB.node, NOW)


# -- the secret -----------------------------------------------------------------------------------


def test_without_the_secret_nobody_joins():
    invitation, offer = ALICE.invites()
    guess = replace(invitation, secret=b"g" * 16)
    with pytest.raises(BadSignature):
        receive_join(offer, begin_join(guess, EVE.side, b"1" * 32), ALICE.side, b"a" * 32, NOW)


def test_a_used_secret_is_refused_and_erased():
    offer, *_ = pair(ALICE, BOB)
    invitation, _ = ALICE.invites()
    assert offer.secret == bytes(16)
    with pytest.raises(Refusal) as refused:
        receive_join(offer, begin_join(invitation, EVE.side, b"1" * 32), ALICE.side, b"a" * 32, NOW)
    assert refused.value.code == "invitation-used"


def test_an_expired_secret_is_refused():
    invitation, offer = ALICE.invites()
    join = begin_join(invitation, BOB.side, b"1" * 32)
    with pytest.raises(Refusal) as refused:
        receive_join(offer, join, ALICE.side, b"a" * 32, NOW + 600)
    assert refused.value.code == "invitation-expired"


def test_a_dropped_connection_does_not_burn_the_secret():
    invitation, offer = ALICE.invites()
    for nonce in (b"1" * 32, b"2" * 32):
        join = begin_join(invitation, BOB.side, nonce)
        offer, joined = receive_join(offer, join, ALICE.side, nonce[::-1], NOW)
    _, reveal = receive_joined(invitation, join, b"2" * 32, joined, BOB.node, NOW)
    assert receive_reveal(offer, reveal, NOW)[1].partner == BOB.peer_id


def test_a_repeated_reveal_gets_the_same_answer_even_after_the_end_of_the_invitation():
    offer, ours, _, reveal = pair(ALICE, BOB)
    assert receive_reveal(offer, reveal, NOW + 10_000) == (offer, ours)


def test_attempts_are_limited():
    invitation, offer = ALICE.invites()
    join = begin_join(invitation, BOB.side, b"1" * 32)
    for _ in range(INVITATION_ATTEMPTS):
        offer, _ = receive_join(offer, join, ALICE.side, b"a" * 32, NOW)
    with pytest.raises(Refusal) as refused:
        receive_join(offer, join, ALICE.side, b"a" * 32, NOW)
    assert refused.value.code == "invitation-exhausted"


def test_a_reveal_out_of_the_blue_is_refused():
    _, _, _, reveal = pair(ALICE, BOB)
    with pytest.raises(Refusal) as refused:
        receive_reveal(ALICE.invites()[1], reveal, NOW)
    assert refused.value.code == "pairing-unknown"


def test_nobody_pairs_with_itself():
    with pytest.raises(Refusal) as refused:
        pair(ALICE, ALICE)
    assert refused.value.code == "own-invitation"


def test_two_facilities_that_nobody_can_reach_cannot_be_partners():
    with pytest.raises(Refusal) as refused:
        pair(Facility(3, url=""), Facility(4, url=""))
    assert refused.value.code == "both-outbound-only"
    pair(Facility(3, url=""), BOB)
    pair(BOB, Facility(3, url=""))


def test_clocks_too_far_apart_are_named():
    invitation, offer = ALICE.invites()
    join = begin_join(invitation, BOB.side, b"1" * 32)
    _, joined = receive_join(offer, join, ALICE.side, b"a" * 32, NOW)
    with pytest.raises(Expired, match="clocks"):
        receive_joined(invitation, join, b"1" * 32, joined, BOB.node, NOW + 601)


# -- the agreement --------------------------------------------------------------------------------


@pytest.mark.parametrize("inviter_first", [True, False])
def test_a_pairing_is_complete_when_both_have_confirmed(inviter_first):
    _, ours, theirs, _ = pair(ALICE, BOB)
    assert ours.stage is theirs.stage is Stage.BOTH
    if inviter_first:
        ours = confirm(ours, ALICE.node)
        theirs = receive_agreed(theirs, agreed(ours))
        assert (ours.stage, theirs.stage) == (Stage.THEM, Stage.US)
        theirs = confirm(theirs, BOB.node)
        ours = receive_agreed(ours, agreed(theirs))
    else:
        theirs = confirm(theirs, BOB.node)
        ours = receive_agreed(ours, agreed(theirs))
        assert (ours.stage, theirs.stage) == (Stage.US, Stage.THEM)
        ours = confirm(ours, ALICE.node)
        theirs = receive_agreed(theirs, agreed(ours))
    assert ours.stage is theirs.stage is Stage.COMPLETE


def test_an_answer_without_signature_changes_nothing():
    _, ours, theirs, _ = pair(ALICE, BOB)
    assert receive_agreed(ours, agreed(theirs)) == ours


def test_the_agreement_names_keys_and_terms_of_both():
    _, ours, _, _ = pair(ALICE, BOB)
    agreement = agreement_of(ours)
    assert (agreement.inviter, agreement.joiner) == (ALICE.peer_id, BOB.peer_id)
    assert read_terms(agreement.inviter_terms) == Terms(modalities=("CT",), daily_studies=40)
    assert agreement.joiner_node == public_key(BOB.node)


def test_a_forged_or_misdirected_agreement_is_refused():
    _, ours, theirs, _ = pair(ALICE, BOB)
    genuine = agreed(confirm(theirs, BOB.node))
    with pytest.raises(BadSignature):
        receive_agreed(ours, replace(genuine, signature=bytes(64)))
    with pytest.raises(WrongAddressee):
        receive_agreed(ours, replace(genuine, pairing_id=bytes(32)))
    with pytest.raises(WrongAddressee):
        receive_agreed(ours, Agreed(ours.pairing_id, EVE.peer_id, genuine.signature))


def test_only_our_own_node_key_confirms():
    _, ours, _, _ = pair(ALICE, BOB)
    with pytest.raises(BadSignature):
        confirm(ours, EVE.node)


@given(st.binary(max_size=300), st.sampled_from([Join, Joined, Agreed, Terms]))
def test_noise_is_refused_as_such(data, kind):
    try:
        from_bytes(kind, data, 1000)
    except RemoteProtocolError:
        return
    assert kind is Terms or kind is Agreed, "only a small record can come about by chance"


# -- golden vectors ------------------------------------------------------------------------------


def conversation():
    """One pairing with fixed keys and nonces, every message as it travels."""
    invitation, offer = ALICE.invites()
    join = begin_join(invitation, BOB.side, b"j" * 32)
    offer, joined = receive_join(offer, join, ALICE.side, b"i" * 32, NOW)
    theirs, reveal = receive_joined(invitation, join, b"j" * 32, joined, BOB.node, NOW)
    _, ours = receive_reveal(offer, reveal, NOW)
    return {
        "invitation": write_invitation(invitation),
        "join": to_bytes(join).hex(),
        "joined": to_bytes(joined).hex(),
        "reveal": to_bytes(reveal).hex(),
        "words": " ".join(words(ours, LIST)),
        "agreement": ours.agreement.hex(),
        "inviter_agreed": to_bytes(agreed(confirm(ours, ALICE.node))).hex(),
        "joiner_agreed": to_bytes(agreed(confirm(theirs, BOB.node))).hex(),
    }


def test_the_golden_vectors_are_what_this_side_says():
    assert conversation() == VECTORS["conversation"]
    for name, facility in (("inviter", ALICE), ("joiner", BOB)):
        assert VECTORS[f"{name}_root_seed"] == facility.root.hex()
        assert VECTORS[f"{name}_node_seed"] == facility.node.hex()
