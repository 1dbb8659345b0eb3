"""A partner publishes a sealing key to which every secret agrees: zero.

Whatever is sealed to it could be opened by anyone, and libsodium refuses to seal at all: an outbox
that meets such a key would stop for all partners.
"""

from __future__ import annotations

import pytest

from protocol.errors import Malformed
from protocol.keyrecord import KeyRecord, sign_record, verify_record
from protocol.nodekeys import only_key
from protocol.sealing import exchange_public_key, is_exchange_key
from protocol.signing import public_key

ROOT = bytes([9]) * 32
P = 2**255 - 19
SMALL_ORDER = [
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    P - 1,
    P,
    P + 1,
]
"""Every encoding below 2^255 of a u of small order (RFC 7748 section 7)."""


@pytest.mark.parametrize("u", SMALL_ORDER)
def test_nobody_seals_to_a_point_of_small_order(u):
    record = KeyRecord(
        version=1,
        peer_id=public_key(ROOT),
        revision=1,
        facility_name="Eve",
        node_keys=only_key(public_key(ROOT)),
        seal_public=u.to_bytes(32, "little"),
        tls_certificate=b"der",
        federation_url="",
        pairing_url="",
        issued_at=0,
        renew_by=0,
    )
    with pytest.raises(Malformed):
        verify_record(sign_record(ROOT, record))


def test_every_other_key_will_do():
    assert is_exchange_key(exchange_public_key(ROOT))
