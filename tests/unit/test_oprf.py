"""The OPRF against the vectors of RFC 9497 appendix A.1.1, its algebra, and what it refuses."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import oprf
from protocol.errors import LocalProtocolError, Malformed

RFC = json.loads(
    (Path(__file__).parents[1] / "vectors" / "oprf-ristretto255-sha512.json").read_text()
)
KEY = bytes.fromhex(RFC["secret_key"])
ORDER = 2**252 + 27742317777372353535851937790883648493

random64 = st.binary(min_size=64, max_size=64).filter(
    lambda data: int.from_bytes(data, "little") % ORDER
)
messages = st.binary(max_size=200)


def as_bytes(vector):
    return {name: bytes.fromhex(text) for name, text in vector.items()}


def test_derives_the_key_of_the_rfc():
    seed, info = bytes.fromhex(RFC["seed"]), bytes.fromhex(RFC["key_info"])
    assert oprf.derive_key(seed, info) == KEY


@pytest.mark.parametrize("vector", [as_bytes(vector) for vector in RFC["vectors"]])
def test_every_step_gives_the_bytes_of_the_rfc(vector):
    blinded = oprf.blind(vector["input"], vector["blind"])
    evaluated = oprf.evaluate(KEY, blinded)
    assert blinded == vector["blinded_element"]
    assert evaluated == vector["evaluation_element"]
    assert (
        oprf.finalize(vector["input"], oprf.inverse(vector["blind"]), evaluated) == vector["output"]
    )
    assert oprf.evaluate_directly(KEY, vector["input"]) == vector["output"]


@given(messages, random64, random64)
@settings(max_examples=60)
def test_searcher_and_origin_arrive_at_the_same_output(message, blinding, keying):
    blind_scalar, key = oprf.scalar_from_random(blinding), oprf.scalar_from_random(keying)
    evaluated = oprf.evaluate(key, oprf.blind(message, blind_scalar))
    assert oprf.finalize(message, oprf.inverse(blind_scalar), evaluated) == oprf.evaluate_directly(
        key, message
    )


@given(messages, messages)
@settings(max_examples=60)
def test_different_messages_have_different_outputs(one, other):
    same_output = oprf.evaluate_directly(KEY, one) == oprf.evaluate_directly(KEY, other)
    assert same_output == (one == other)


@given(messages, random64, random64)
@settings(max_examples=60)
def test_a_blinded_element_depends_on_the_blind(message, one, other):
    scalars = oprf.scalar_from_random(one), oprf.scalar_from_random(other)
    blinded = {oprf.blind(message, scalar) for scalar in scalars}
    assert len(blinded) == len(set(scalars))


@given(random64)
def test_a_random_scalar_is_the_little_endian_remainder(data):
    expected = (int.from_bytes(data, "little") % ORDER).to_bytes(32, "little")
    assert oprf.scalar_from_random(data) == expected


def test_keys_of_different_use_differ():
    seed = bytes(range(32))
    assert oprf.derive_key(seed, b"strong") != oprf.derive_key(seed, b"weak")


# RFC 9496 appendix A.2: encodings that a decoder must refuse, and one too many bits.
BAD_ELEMENTS = {
    "identity": bytes(32),
    "non-canonical field element": bytes.fromhex("ed" + "ff" * 30 + "7f"),
    "above 2^255": b"\xff" * 32,
    "negative field element": b"\x01" + bytes(31),
    "non-square": bytes.fromhex("26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371"),
    "too short": bytes(31),
    "too long": oprf.hash_to_group(b"") + b"\0",
    "empty": b"",
}


@pytest.mark.parametrize("element", BAD_ELEMENTS.values(), ids=BAD_ELEMENTS)
def test_a_wrong_element_is_the_other_sides_fault(element):
    with pytest.raises(Malformed, match="element"):
        oprf.evaluate(KEY, element)
    with pytest.raises(Malformed, match="element"):
        oprf.finalize(b"message", oprf.inverse(KEY), element)


@pytest.mark.parametrize(
    "scalar", [bytes(32), ORDER.to_bytes(32, "little"), b"\xff" * 32, KEY[:31], KEY + b"\0"]
)
def test_a_wrong_scalar_is_our_fault(scalar):
    with pytest.raises(LocalProtocolError, match="key or blind"):
        oprf.evaluate(scalar, oprf.hash_to_group(b""))
    with pytest.raises(LocalProtocolError, match="key or blind"):
        oprf.blind(b"", scalar)


def test_lengths_are_checked():
    with pytest.raises(LocalProtocolError, match="seed"):
        oprf.derive_key(bytes(31), b"")
    with pytest.raises(LocalProtocolError, match="64"):
        oprf.scalar_from_random(bytes(32))
    with pytest.raises(LocalProtocolError, match="not zero"):
        oprf.scalar_from_random(bytes(64))
    with pytest.raises(LocalProtocolError, match="65535"):
        oprf.hash_to_group(bytes(65_536))
