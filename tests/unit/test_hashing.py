"""Hashes and trees: domains are apart, and a path proves exactly its own leaf."""

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from protocol.hashing import (
    EMPTY_ROOT,
    LEAF,
    NODE,
    derive,
    keyed,
    merkle_path,
    merkle_root,
    root_from_path,
    tagged,
)

leaf_lists = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40, unique=True)


def test_the_tree_is_that_of_rfc_6962():
    a, b, c = (tagged(LEAF, bytes([n])) for n in range(3))
    assert merkle_root([]) == EMPTY_ROOT == blake3(b"").digest()
    assert merkle_root([a]) == a
    assert merkle_root([a, b, c]) == blake3(NODE + blake3(NODE + a + b).digest() + c).digest()


@given(leaf_lists, st.data())
def test_a_path_leads_from_its_leaf_to_the_root(leaves, data):
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = merkle_path(leaves, index)
    root = merkle_root(leaves)
    assert root_from_path(leaves[index], index, len(leaves), path) == root
    other = data.draw(st.integers(0, len(leaves) - 1))
    if other != index:
        assert root_from_path(leaves[other], index, len(leaves), path) != root
        assert root_from_path(leaves[index], other, len(leaves), path) != root
    assert root_from_path(leaves[index], index, len(leaves), (*path, bytes(32))) is None
    if path:
        assert root_from_path(leaves[index], index, len(leaves), path[:-1]) is None


@pytest.mark.parametrize("index", [-1, 3])
def test_a_leaf_outside_the_tree_has_no_root(index):
    assert root_from_path(bytes(32), index, 3, ()) is None


def test_tags_keys_and_contexts_are_apart():
    assert tagged(LEAF, b"x") != tagged(NODE, b"x")
    assert keyed(bytes(32), b"x") != keyed(b"\1" * 32, b"x")
    assert derive("one", b"x", 40)[:32] == derive("one", b"x") != derive("two", b"x")
