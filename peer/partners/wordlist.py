"""The 2048 English words of BIP-39, from which six are read over the telephone."""

from __future__ import annotations

from functools import cache

from mnemonic import Mnemonic


@cache
def word_list() -> tuple[str, ...]:
    """Return the words in the order of the standard."""
    return tuple(Mnemonic("english").wordlist)
