"""Hashes and trees: domains are apart, and the tree is the published one."""

from blake3 import blake3

from protocol.hashing import (
    EMPTY_ROOT,
    LEAF,
    NODE,
    derive,
    keyed,
    merkle_root,
    tagged,
)


def test_the_tree_is_that_of_rfc_6962():
    a, b, c = (tagged(LEAF, bytes([n])) for n in range(3))
    assert merkle_root([]) == EMPTY_ROOT == blake3(b"").digest()
    assert merkle_root([a]) == a
    assert merkle_root([a, b, c]) == blake3(NODE + blake3(NODE + a + b).digest() + c).digest()


def test_tags_keys_and_contexts_are_apart():
    assert tagged(LEAF, b"x") != tagged(NODE, b"x")
    assert keyed(bytes(32), b"x") != keyed(b"\1" * 32, b"x")
    assert derive("one", b"x", 40)[:32] == derive("one", b"x") != derive("two", b"x")
