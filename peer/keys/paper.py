"""A root key as text to print and to type in again: base32 in groups, with check characters."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from peer.errors import Damaged
from peer.keys.files import KEY_BYTES
from protocol.hashing import derive

PREFIX: Final = "openpriors-root1:"

GROUP: Final = 4
"""Characters of a group: what a person reads at a glance and types without looking up."""

_CHECK_BYTES: Final = 8
"""A slip of the pen passes unnoticed once in 2^64; with the key's 32 bytes that is 64 characters,
which is an even number of groups and needs no padding."""

_CONTEXT: Final = "openpriors 1 root key on paper"


def to_paper(seed: bytes) -> str:
    """Return the text of a 32-byte root key: the prefix, then groups of four characters."""
    data = seed + derive(_CONTEXT, seed, _CHECK_BYTES)
    text = base64.b32encode(data).decode("ascii").lower()
    return PREFIX + " ".join(text[at : at + GROUP] for at in range(0, len(text), GROUP))


def from_paper(text: str) -> bytes:
    """Return the root key in a text; case, blanks and line ends do not matter.  Raise Damaged."""
    compact = "".join(text.split()).lower()
    compact = compact.removeprefix(PREFIX)
    try:
        data = base64.b32decode(compact.upper())
    except (binascii.Error, ValueError) as error:
        raise Damaged(
            "This is no root key on paper. It has 64 letters and digits 2 to 7 behind "
            f"{PREFIX!r}; 0, 1, 8 and 9 do not occur."
        ) from error
    seed, check = data[:KEY_BYTES], data[KEY_BYTES:]
    if len(seed) != KEY_BYTES or check != derive(_CONTEXT, seed, _CHECK_BYTES):
        raise Damaged("A character of the root key is wrong or missing. Compare it with the paper.")
    return seed
