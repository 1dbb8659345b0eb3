"""Names of things are checked where they come in."""

import pytest

from protocol.errors import Malformed
from protocol.identifiers import entry_id, is_ae_title, is_uid, peer_id


@pytest.mark.parametrize("text", ["1", "1.2.840.10008.1.2", "2.25." + "9" * 39, "1.02.3"])
def test_uids_as_found_in_the_wild(text):
    assert is_uid(text)


@pytest.mark.parametrize(
    "text", ["", "1.", ".1", "1..2", "1.2/../3", "1.2\n", "a.b", "1." + "2" * 63, "１.2"]
)
def test_what_is_no_uid(text):
    assert not is_uid(text)


@pytest.mark.parametrize("text", ["A", "OPENPRIORS", "CT 1 ", "x" * 16])
def test_ae_titles(text):
    assert is_ae_title(text)


@pytest.mark.parametrize("text", ["", "   ", "x" * 17, "A\\B", "A\x00", "É"])
def test_what_is_no_ae_title(text):
    assert not is_ae_title(text)


def test_identities_have_their_lengths():
    assert entry_id(bytes(16)) == bytes(16)
    for call in (
        lambda: peer_id(b"short"),
        lambda: peer_id("x" * 32),
        lambda: entry_id(bytes(15)),
        lambda: entry_id(None),
    ):
        with pytest.raises(Malformed):
            call()
