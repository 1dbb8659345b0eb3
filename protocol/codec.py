"""Strict, bounded MessagePack: the one place where bytes become values.

MessagePack is not canonical, so what is signed is always the bytes as received, never a second
encoding of the values.  Only nil, bool, int, bytes, str, array and map with str keys travel: no
floats (no two platforms need agree on them), no extension types.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgpack

from protocol.errors import LocalProtocolError, Malformed, Oversized
from protocol.limits import CONTAINER_ITEMS, NESTING_DEPTH, TEXT_BYTES

Value: TypeAlias = "bool | int | bytes | str | list[Value] | dict[str, Value] | None"

_LEAVES: Final = frozenset({bool, int, bytes, str, type(None)})


def pack(value: object) -> bytes:
    """Return the MessagePack of `value`, built from Value's types (tuples pass as arrays)."""
    try:
        return bytes(msgpack.packb(value, use_bin_type=True, use_single_float=False))
    except (TypeError, ValueError, OverflowError) as error:
        msg = f"this cannot travel: {type(error).__name__}"
        raise LocalProtocolError(msg) from error


def unpack(data: bytes, limit: int) -> Value:
    """Return the one value in `data`.

    Raise Oversized before parsing if there are more than `limit` bytes, and Malformed if `data` is
    not exactly one value of the permitted types within the bounds of `limits`.
    """
    if len(data) > limit:
        msg = f"{len(data)} bytes where at most {limit} are allowed"
        raise Oversized(msg)
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            use_list=True,
            strict_map_key=True,
            max_str_len=min(limit, TEXT_BYTES),
            max_bin_len=limit,
            max_array_len=min(limit, CONTAINER_ITEMS),
            max_map_len=min(limit, CONTAINER_ITEMS),
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        msg = "not one well-formed MessagePack value within the bounds"
        raise Malformed(msg) from error
    _check(value, 0)
    return value  # type: ignore[no-any-return]


def _check(value: object, depth: int) -> None:
    if depth > NESTING_DEPTH:
        msg = f"nested deeper than {NESTING_DEPTH} levels"
        raise Malformed(msg)
    if isinstance(value, list):
        # Entries of a journal come by the thousand, and most of what is in them is a leaf.
        leaves_fit = depth < NESTING_DEPTH
        for item in value:
            if not (leaves_fit and type(item) in _LEAVES):
                _check(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                msg = "a map key is not a text string"
                raise Malformed(msg)
            _check(item, depth + 1)
    elif type(value) not in _LEAVES:
        msg = f"a value of the type {type(value).__name__} does not travel"
        raise Malformed(msg)
