"""Patient identifiers: one spelling each, and none for those that identify nobody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.identifiers import PatientIdentifier
from protocol.matching.identifiers import normalise, normalised

OID = "1.2.840.99999.7"


@pytest.mark.parametrize("value", ["ab-123 456", "AB123456", "00ab123456", "ab.123/456"])
def test_spellings_of_one_value_are_one(value):
    assert normalise(PatientIdentifier(OID, value)) == PatientIdentifier(
        "urn:oid:" + OID, "AB123456"
    )


@pytest.mark.parametrize(
    ("issuer", "expected"),
    [
        (OID, f"urn:oid:{OID}"),
        (f"urn:oid:{OID}", f"urn:oid:{OID}"),
        (f"URN:OID:{OID}", f"urn:oid:{OID}"),
        ("HTTPS://Example.ORG/Ids/", "https://example.org/Ids"),
    ],
)
def test_spellings_of_one_issuer_are_one(issuer, expected):
    assert normalise(PatientIdentifier(issuer, "AB123456")).issuer == expected


@pytest.mark.parametrize(
    "issuer",
    ["", "HOSPITAL", "1", "3.5.7", "urn:", "1.02", "no spaces: here", "urn:x:\ud800", "x:\x00"],
)
def test_a_local_issuer_is_none(issuer):
    assert normalise(PatientIdentifier(issuer, "AB123456")) is None


@pytest.mark.parametrize(
    "value",
    ["", "1234", "0001234", "999999999", "000000000", "123456789", "987654321", "unknown", "XXXXX"],
)
def test_a_value_that_identifies_nobody_is_refused(value):
    assert normalise(PatientIdentifier(OID, value)) is None


@given(st.text(max_size=20), st.text(max_size=20))
def test_normalising_twice_changes_nothing(issuer, value):
    for source in (PatientIdentifier(issuer, value), PatientIdentifier(OID, value + "AB123")):
        once = normalise(source)
        assert once is None or normalise(once) == once


def test_equal_identifiers_count_once_and_keep_their_order():
    spellings = (
        PatientIdentifier(OID, "77-777-1"),
        PatientIdentifier("HOSPITAL", "AB123456"),
        PatientIdentifier(OID, "AB123456"),
        PatientIdentifier(f"urn:oid:{OID}", "777771"),
    )
    assert [one.value for one in normalised(spellings)] == ["777771", "AB123456"]
