"""The digest: sealed and opened, padded, cut visibly, fillers like any other."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import digest, limits
from protocol.digest import PatientCard, Slot, SlotType, StudyDigest
from protocol.errors import BadSignature, LocalProtocolError, Malformed
from protocol.identifiers import PatientIdentifier

VECTORS = Path(__file__).parents[1] / "vectors" / "digest.json"
PATIENT_KEY = bytes(range(16))
SALT = b"s" * 16

CARD = PatientCard(
    names=("Doe^Jane", "Roe^Jane"),
    birth_date="19800517",
    sex="F",
    identifiers=(PatientIdentifier("urn:oid:1.2.3", "MRN-0001"),),
    consent=b"c" * 16,
    highest_position=2,
)
STUDY = StudyDigest(
    study_instance_uid="1.2.826.0.1.3680043.8.498.45787841905188114249428755",
    study_date="20260102",
    study_time="101500",
    modalities=("CT", "SR"),
    body_parts=("CHEST",),
    description="CT chest with contrast",
    accession_number="A-77",
    accession_issuer="",
    series=3,
    instances=347,
    size=181_000_000,
    availability="ONLINE",
    retrieve_handle=b"h" * 16,
    manifest_root=b"r" * 32,
    manifest_version=1,
    expires_at=1_800_000_000,
)


def stream(seed, length):
    return hashlib.shake_256(seed.encode()).digest(length)


def slots(count, kind=SlotType.STRONG):
    return [Slot(stream(f"output {n}", 64), n, kind) for n in range(count)]


def sealed(card=CARD, used=5):
    random = stream("patient", digest.patient_random_bytes(used))
    return digest.seal_patient(card, PATIENT_KEY, slots(used), SALT, random)


def test_a_patient_is_opened_by_each_of_its_match_keys():
    body = sealed()
    for slot in slots(5):
        assert digest.slot_label(slot.output, slot.position) in digest.labels(body)
        opened = digest.open_slot(body, slot.output, slot.position, SALT)
        assert opened == digest.OpenedSlot(SlotType.STRONG, PATIENT_KEY)
        assert digest.open_card(body, opened.key, SALT) == CARD


def test_a_weak_slot_gives_a_stub_and_not_the_patient_key():
    slot = Slot(stream("weak", 64), 0, SlotType.WEAK)
    random = stream("r", digest.patient_random_bytes(1))
    body = digest.seal_patient(CARD, PATIENT_KEY, [slot], SALT, random)
    opened = digest.open_slot(body, slot.output, 0, SALT)
    assert opened.type is SlotType.WEAK
    assert opened.key == digest.stub_key(PATIENT_KEY)
    with pytest.raises(BadSignature):
        digest.open_card(body, opened.key, SALT)


def test_slots_are_a_fixed_number_in_an_order_that_tells_nothing():
    for used in (0, 1, 16):
        labels = digest.labels(sealed(used=used))
        assert len(labels) == len(set(labels)) == 16
        assert list(labels) == sorted(labels)
    assert len(digest.labels(sealed(used=17))) == 32
    with pytest.raises(LocalProtocolError):
        digest.slot_count(limits.SLOTS_MOST + 1)


def test_a_study_is_found_and_opened_with_the_patient_key_and_position():
    body = digest.seal_study(STUDY, PATIENT_KEY, 7, SALT)
    assert digest.labels(body) == (digest.study_label(PATIENT_KEY, 7),)
    assert digest.open_study(body, PATIENT_KEY, 7, SALT) == STUDY
    for key, position, salt in (
        (bytes(16), 7, SALT),
        (PATIENT_KEY, 8, SALT),
        (PATIENT_KEY, 7, b"t" * 16),
    ):
        with pytest.raises(BadSignature):
            digest.open_study(body, key, position, salt)


def test_fillers_have_the_length_and_look_of_the_usual_record():
    patient, study = sealed(), digest.seal_study(STUDY, PATIENT_KEY, 0, SALT)
    filler = digest.seal_slot_fillers(
        slots(3, SlotType.FILLER), SALT, stream("filler", digest.filler_random_bytes(3))
    )
    study_filler = digest.seal_study(None, PATIENT_KEY, 7, SALT)
    assert len(filler) == len(patient)
    assert filler[:3] == patient[:3]
    assert len(study_filler) == len(study)
    assert study_filler[:2] == study[:2]
    assert digest.open_study(study_filler, PATIENT_KEY, 7, SALT) is None
    assert digest.open_slot(filler, slots(3)[2].output, 2, SALT).type is SlotType.FILLER


@given(
    st.text(max_size=900),
    st.lists(st.text(max_size=120), max_size=40).map(tuple),
    st.text(max_size=200),
)
def test_every_study_fits_a_padded_size_and_opens(long_text, texts, text):
    study = replace(STUDY, description=long_text, body_parts=texts, accession_number=text)
    body = digest.seal_study(study, PATIENT_KEY, 0, SALT)
    assert len(body) in limits.DIGEST_SIZES or len(body) % limits.DIGEST_BLOCK == 0
    assert len(body) <= limits.DIGEST_BYTES
    opened = digest.open_study(body, PATIENT_KEY, 0, SALT)
    if len(long_text.encode()) <= limits.LONG_TEXT_BYTES:
        assert opened.description == long_text
    else:
        assert opened.description.endswith("…")
        assert long_text.startswith(opened.description[:-1])
    if len(texts) > limits.DIGEST_LIST:
        assert opened.body_parts[-1] == "…"


@given(
    st.lists(st.text(max_size=300), max_size=12).map(tuple),
    st.lists(st.builds(PatientIdentifier, st.text(max_size=90), st.text(max_size=90))).map(tuple),
    st.integers(0, limits.SLOTS_MOST),
)
def test_every_patient_fits_a_padded_size_and_opens(names, identifiers, used):
    card = replace(CARD, names=names, identifiers=identifiers)
    body = sealed(card, used)
    assert len(body) in limits.DIGEST_SIZES or len(body) % limits.DIGEST_BLOCK == 0
    opened = digest.open_card(body, PATIENT_KEY, SALT)
    assert set(opened.identifiers) <= set(identifiers), "an identifier was altered"


def test_a_text_that_is_no_unicode_still_travels():
    assert digest.cut("a\ud800b") == "a?b"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        bytes(240),
        b"\x01\x04" + bytes(238),
        b"\x02\x01" + bytes(238),
        b"\x01\x01\xff" + bytes(8000),
        b"\x01\x01\x00" + bytes(300),
        b"\x01\x01\x10" + bytes(300),
        b"\x01\x02" + bytes(limits.DIGEST_BYTES),
    ],
)
def test_a_body_that_is_no_digest_is_refused(body):
    with pytest.raises(Malformed):
        digest.labels(body)


def test_an_altered_header_is_noticed():
    body = bytearray(digest.seal_study(STUDY, PATIENT_KEY, 0, SALT))
    body[5] ^= 1
    with pytest.raises(BadSignature):
        digest.open_study(bytes(body), PATIENT_KEY, 0, SALT)


def vectors():
    """What the golden file must hold; written by `python tests/unit/test_digest.py`."""
    output = stream("output 0", 64)
    filler = digest.seal_slot_fillers(
        slots(1, SlotType.FILLER), SALT, stream("filler", digest.filler_random_bytes(1))
    )
    return {
        "patient_key": PATIENT_KEY.hex(),
        "salt": SALT.hex(),
        "output": output.hex(),
        "slot_label_0": digest.slot_label(output, 0).hex(),
        "slot_label_9": digest.slot_label(output, 9).hex(),
        "study_label_0": digest.study_label(PATIENT_KEY, 0).hex(),
        "stub_key": digest.stub_key(PATIENT_KEY).hex(),
        "patient_body": sealed().hex(),
        "slot_filler_body": filler.hex(),
        "study_body_at_0": digest.seal_study(STUDY, PATIENT_KEY, 0, SALT).hex(),
        "study_filler_at_7": digest.seal_study(None, PATIENT_KEY, 7, SALT).hex(),
    }


def test_golden_vectors():
    assert vectors() == json.loads(VECTORS.read_text())


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(vectors(), indent=1) + "\n")
