"""Somebody sends a file whose patient has more, and longer, names and identifiers than fit a body.

If sealing failed, the pass over all patients would end at this one, at every start of the node, and
nobody's consent or revocation would be published any more.
"""

from __future__ import annotations

import pytest

from protocol import digest, limits
from protocol.digest import PatientCard, Slot, SlotType
from protocol.identifiers import PatientIdentifier

PATIENT_KEY, SALT = bytes(range(16)), bytes(16)
CARD = PatientCard(
    names=tuple("名" * 200 for _ in range(20)),
    birth_date="1" * 1000,
    sex="F" * 1000,
    identifiers=tuple(PatientIdentifier("i" * 128, f"{n:0128d}") for n in range(40)),
    consent=bytes(16),
    highest_position=2**62,
)


@pytest.mark.parametrize("used", range(0, limits.SLOTS_MOST + 1, 8))
def test_the_largest_card_fits_beside_any_number_of_slots(used):
    slots = [Slot(bytes([n]) * 64, 0, SlotType.STRONG) for n in range(used)]
    random = bytes(digest.patient_random_bytes(used))
    body = digest.seal_patient(CARD, PATIENT_KEY, slots, SALT, random)
    assert len(body) <= limits.DIGEST_BYTES
    assert len(digest.labels(body)) == digest.slot_count(used)
    card = digest.open_card(body, PATIENT_KEY, SALT)
    assert card.names
    whole = tuple(CARD.identifiers[: len(card.identifiers)])
    assert card.identifiers == whole, "an identifier was cut"
