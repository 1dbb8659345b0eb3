"""Eve's key record names Carol's certificate, which every node that ever dialled Carol has seen.

If it counted as Eve's, Carol's connections would be taken for Eve's, and Carol would be locked out
when Eve is removed.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from peer.partners.trust import Partner, TrustTable

CERTIFICATE, OTHER = b"Carol's certificate", b"Carol's next certificate"


def partner(name, certificate, state="active"):
    return Partner(
        peer_id=name.encode().ljust(32, b"."),
        name=name,
        state=state,
        record=SimpleNamespace(tls_certificate=certificate),
        words="",
        confirmed_here=True,
        confirmed_there=True,
        agreement=None,
        since=0,
    )


def test_a_certificate_stays_with_the_partner_who_had_it_first():
    table, carol, eve = TrustTable(), partner("Carol", CERTIFICATE), partner("Eve", CERTIFICATE)
    table.put(replace(eve, state="pending"))  # Eve asked first, when nobody had it.
    table.put(carol)
    table.put(eve)
    assert table.by_certificate(CERTIFICATE) == carol
    table.put(replace(eve, state="removed"))
    assert table.by_certificate(CERTIFICATE) == carol


def test_its_owner_can_change_and_give_it_up():
    table, carol = TrustTable(), partner("Carol", CERTIFICATE)
    table.put(carol)
    renewed = replace(carol, record=SimpleNamespace(tls_certificate=OTHER))
    table.put(renewed)
    assert table.by_certificate(CERTIFICATE) is None
    assert table.by_certificate(OTHER) == renewed
    table.put(replace(renewed, state="removed"))
    assert table.by_certificate(OTHER) is None
