"""Frozen dataclasses to and from MessagePack arrays: how every structure of the protocol travels.

A record is the array of its fields in the order of their declaration.  A field is an int, bool,
bytes, str, another record, a homogeneous tuple of these, or one of them or None; `Annotated` with
`Size` bounds the length of bytes, str and tuple, and `Range` bounds an int.  Reading is strict:
another number of fields, another type or a value out of bounds is Malformed.
"""

from __future__ import annotations

import types
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from protocol.codec import Value, pack, unpack
from protocol.errors import Malformed

if TYPE_CHECKING:
    from collections.abc import Callable

Record = TypeVar("Record")
_Reader: TypeAlias = "Callable[[Value], Any]"


@dataclass(frozen=True, slots=True)
class Size:
    """Bounds on a length: bytes of bytes, characters of str, items of a tuple."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds on an int, both included."""

    least: int
    most: int


Hash: TypeAlias = Annotated[bytes, Size(32, 32)]
Key: TypeAlias = Annotated[bytes, Size(32, 32)]
Signature: TypeAlias = Annotated[bytes, Size(64, 64)]
Id16: TypeAlias = Annotated[bytes, Size(16, 16)]
Natural: TypeAlias = Annotated[int, Range(0, 2**63 - 1)]
Instant: TypeAlias = Annotated[int, Range(0, 2**40)]
"""Whole seconds since 1970-01-01T00:00:00Z."""
Name: TypeAlias = Annotated[str, Size(0, 256)]
Sentence: TypeAlias = Annotated[str, Size(0, 1024)]

_LEAF_KINDS: Final = frozenset({int, bool, bytes, str})


def to_bytes(record: object) -> bytes:
    """Return the MessagePack of a record."""
    return pack(to_value(record))


def from_bytes(kind: type[Record], data: bytes, limit: int) -> Record:
    """Return the record of class `kind` in `data`; raise Oversized or Malformed."""
    return from_value(kind, unpack(data, limit))


def from_prefix(kind: type[Record], data: bytes, limit: int) -> Record:
    """Return the record of class `kind` with which `data` begins; raise Oversized or Malformed.

    For the few records that two versions must read of each other: what a later one has added behind
    the known fields is passed over.
    """
    value = unpack(data, limit)
    return from_value(kind, value[: len(fields(kind))] if isinstance(value, list) else value)  # type: ignore[arg-type]


def to_value(record: object) -> Value:
    """Return a record as the nested lists in which it travels."""
    if type(record) in _LEAF_KINDS:
        return record  # type: ignore[return-value]
    if is_dataclass(record):
        kind: Any = type(record)
        return [to_value(getattr(record, name)) for name in _field_names(kind)]
    if isinstance(record, tuple):
        return [to_value(item) for item in record]
    return record  # type: ignore[return-value]  # None, an IntEnum; pack() refuses what is neither


@cache
def _field_names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def from_value(kind: type[Record], value: Value) -> Record:
    """Return the record of class `kind` that the nested lists `value` describe; or Malformed."""
    return _record_reader(kind)(value)  # type: ignore[no-any-return, arg-type]


@cache
def _record_reader(kind: type[Any]) -> _Reader:
    hints = get_type_hints(kind, include_extras=True)
    readers = [(field.name, _reader(hints[field.name])) for field in fields(kind)]

    def read(value: Value) -> Any:  # noqa: ANN401 - an instance of `kind`
        if not isinstance(value, list) or len(value) != len(readers):
            msg = f"a {kind.__name__} is an array of {len(readers)} fields"
            raise Malformed(msg)
        arguments = []
        for (name, reader), item in zip(readers, value, strict=True):
            try:
                arguments.append(reader(item))
            except Malformed as error:
                msg = f"{kind.__name__}.{name}: {error}"
                raise Malformed(msg) from error
        return kind(*arguments)

    return read


def _reader(hint: Any) -> _Reader:  # noqa: ANN401 - a type hint
    hint = getattr(hint, "__supertype__", hint)
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *bounds = get_args(hint)
        if inner in _LEAF_KINDS and len(bounds) == 1:
            return _bounded_leaf(inner, bounds[0])
        return _bounded(_reader(inner), bounds)
    if origin in (Union, types.UnionType):
        (inner,) = (each for each in get_args(hint) if each is not types.NoneType)
        reader = _reader(inner)
        return lambda value: None if value is None else reader(value)
    if origin is tuple:
        return _tuple_reader(_reader(get_args(hint)[0]))
    if is_dataclass(hint) and isinstance(hint, type):
        return _record_reader(hint)
    return _leaf_reader(hint)


def _bounded(reader: _Reader, bounds: list[Any]) -> _Reader:
    def read(value: Value) -> Any:  # noqa: ANN401 - what `reader` returns
        result = reader(value)
        for bound in bounds:
            measured = len(result) if isinstance(bound, Size) else result
            if not bound.least <= measured <= bound.most:
                msg = f"{measured} is not within {bound.least} to {bound.most}"
                raise Malformed(msg)
        return result

    return read


def _bounded_leaf(kind: type[Any], bound: Size | Range) -> _Reader:
    """Return what `_bounded` of a `_leaf_reader` is, in one step: most fields are of this form."""
    least, most, sized = bound.least, bound.most, isinstance(bound, Size)

    def read(value: Any) -> Any:  # noqa: ANN401 - an instance of `kind`, once that is known
        if type(value) is not kind:  # bool is an int to isinstance
            msg = f"not {kind.__name__}"
            raise Malformed(msg)
        measured = len(value) if sized else value
        if not least <= measured <= most:
            msg = f"{measured} is not within {least} to {most}"
            raise Malformed(msg)
        return value

    return read


def _tuple_reader(reader: _Reader) -> _Reader:
    def read(value: Value) -> tuple[Any, ...]:
        if not isinstance(value, list):
            msg = "not an array"
            raise Malformed(msg)
        return tuple(reader(item) for item in value)

    return read


def _leaf_reader(kind: type[Any]) -> _Reader:
    def read(value: Value) -> Any:  # noqa: ANN401 - an instance of `kind`
        if type(value) is not kind:  # bool is an int to isinstance
            msg = f"not {kind.__name__}"
            raise Malformed(msg)
        return value

    return read
