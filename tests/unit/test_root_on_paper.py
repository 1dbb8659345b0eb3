"""The root key on paper: read back as it was, or refused with what is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.errors import Damaged
from peer.keys import create, from_paper, read_root_key, to_paper, write_root_key

SEED = bytes(range(32))


@given(st.binary(min_size=32, max_size=32))
def test_what_was_printed_is_read_back(seed):
    text = to_paper(seed)
    assert from_paper(text) == seed
    assert from_paper(text.upper().replace(" ", "\n")) == seed
    assert from_paper(text.partition(":")[2]) == seed, "the prefix may be left out"


@given(st.integers(0, 63), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_one_wrong_character_is_noticed(at, other):
    prefix, _, groups = to_paper(SEED).partition(":")
    text = groups.replace(" ", "")
    if text[at] == other:
        return
    with pytest.raises(Damaged, match="Compare"):
        from_paper(f"{prefix}:{text[:at]}{other}{text[at + 1 :]}")


@pytest.mark.parametrize("text", ["", "openpriors-root1:", "openpriors-root1:abcd 1089", "a" * 56])
def test_what_is_no_root_key(text):
    with pytest.raises(Damaged):
        from_paper(text)


def test_the_text_is_as_documented():
    """Base32 of the key and of eight bytes that are derived from it, in groups of four."""
    prefix, _, groups = to_paper(SEED).partition(":")
    assert prefix == "openpriors-root1"
    assert [len(each) for each in groups.split(" ")] == [4] * 16


def test_a_file_from_paper_is_the_file_that_was(tmp_path):
    create(tmp_path / "data", tmp_path / "root.key", "A", now=1)
    seed = read_root_key(tmp_path / "root.key")
    write_root_key(tmp_path / "again.key", tmp_path / "data", from_paper(to_paper(seed)))
    assert (tmp_path / "again.key").read_bytes() == (tmp_path / "root.key").read_bytes()
