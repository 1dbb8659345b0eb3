"""Identifiers: what a query asks for and what it is answered with (PS3.4 section C.4)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Final

from pydicom import config
from pydicom.charset import convert_encodings
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID
from pynetdicom.dsutils import encode

from peer.dicom.layout import survey
from peer.dicom.part10 import UNREADABLE
from peer.index.attributes import Described
from peer.index.queries import bad_query
from protocol.errors import Refusal

IDENTIFIER_BYTES: Final = 256 * 1024
"""Longest identifier of a request: a thousand UIDs have 65 kB."""

ITEMS: Final = 4
"""Most items of a sequence that are looked at; a key has one (PS3.4 section C.2.2.2.6)."""

UTF8: Final = "ISO_IR 192"

_ASCII_ENCODING: Final = "iso8859"
"""What pydicom calls the default repertoire (ISO_IR 6), which is ASCII alone."""


def read_identifier(data: bytes, transfer_syntax_uid: str) -> Dataset:
    """Return the identifier of a request; raise Refusal "bad-query" or what `survey` raises."""
    syntax = UID(transfer_syntax_uid)
    if len(data) > IDENTIFIER_BYTES:
        raise bad_query("The identifier is too long.")
    try:
        survey(data, 0, explicit=not syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
        return read_dataset(BytesIO(data), syntax.is_implicit_VR, syntax.is_little_endian)
    except UNREADABLE:
        raise bad_query("The identifier is no data set.") from None


def keys_of(identifier: Dataset) -> dict[str, str]:
    """Return the keys by keyword, "" to match anything; one in a sequence is "Sequence.Key".

    A sequence without such keys is named by itself.  Group lengths, private attributes and what
    describes the identifier itself are no keys.  Raises Refusal "bad-query".
    """
    try:
        return dict(_keys(identifier, ""))
    except UNREADABLE:
        raise bad_query("A value to match is not what its attribute holds.") from None


def _keys(data_set: Dataset, above: str) -> Iterator[tuple[str, str]]:
    for tag in sorted(data_set.keys()):
        keyword = keyword_for_tag(tag)
        if tag.element == 0 or tag.is_private or not keyword or keyword in _DESCRIBING:
            continue
        element = data_set[tag]
        if element.VR != "SQ":
            yield above + keyword, _text(element)
            continue
        yield above + keyword, ""
        if not above:
            for item in list(element.value or ())[:ITEMS]:
                yield from _keys(item, f"{keyword}.")


_DESCRIBING: Final = frozenset(
    {"SpecificCharacterSet", "QueryRetrieveLevel", "TimezoneOffsetFromUTC", "RetrieveAETitle"}
)


def _text(element: DataElement) -> str:
    value = element.value
    if value is None:
        return ""
    if isinstance(value, bytes):
        raise TypeError
    values = value if isinstance(value, MultiValue) else [value]
    return "\\".join("" if each is None else str(each).strip() for each in values)


def text_of(identifier: Dataset, keyword: str) -> str:
    """Return the text of a value, "" if there is none that can be read."""
    try:
        return _text(identifier[keyword]) if keyword in identifier else ""
    except UNREADABLE:
        return ""


def character_sets(identifier: Dataset) -> tuple[str, ...]:
    """Return the terms of Specific Character Set that a request names."""
    value = identifier.get("SpecificCharacterSet") or ()
    terms = value if isinstance(value, MultiValue) else [value] if value else []
    return tuple(str(term).strip() for term in terms)


class Answers:
    """Writes the identifiers of responses as a request asked for them.

    `always` is said in each, asked for or not, unless a match says something else.  Texts are in
    the character set of the request if it has all their letters, else in UTF-8 (PS3.4 section
    C.4.1.1.3.2).
    """

    def __init__(
        self, keys: Mapping[str, str], terms: tuple[str, ...], always: Mapping[str, tuple[str, str]]
    ) -> None:
        self._keys = tuple(keys)
        self._always = always
        self._terms = () if UTF8 in terms else terms
        self._encodings = _encodings(self._terms)

    def identifier(self, described: Described, unique: tuple[str, ...]) -> Dataset:
        """Return the keys of the request as this match has them, and its unique keys."""
        answer = Dataset()
        texts: list[str] = []
        for keyword in dict.fromkeys((*unique, *self._keys, *self._always)):
            found = described.get(keyword)
            if found is None:
                continue
            vr, values = found
            if vr in _TEXTS:
                texts.extend(str(value) for value in values)
            _add(answer, keyword, vr, list(values) if len(values) > 1 else next(iter(values), None))
        for keyword, (vr, value) in self._always.items():
            if keyword not in described:
                _add(answer, keyword, vr, value)
        if not all(text.isascii() for text in texts):
            fits = all(_fits(text, self._encodings) for text in texts)
            terms = list(self._terms) if fits else [UTF8]
            _add(answer, "SpecificCharacterSet", "CS", terms if len(terms) > 1 else terms[0])
        return answer


_TEXTS: Final = frozenset({"LO", "LT", "PN", "SH", "ST", "UT"})
"""VRs whose letters Specific Character Set decides about."""


def _add(answer: Dataset, keyword: str, vr: str, value: object) -> None:
    tag = tag_for_keyword(keyword)
    if tag is not None:
        # What is held is told as it came, even where it breaks the rules of its VR.
        answer.add(DataElement(tag, vr, value, validation_mode=config.IGNORE))


def _encodings(terms: tuple[str, ...]) -> tuple[str, ...]:
    try:
        found = tuple(convert_encodings(list(terms))) if terms else ()
    except (LookupError, ValueError):
        return ()
    return tuple(each for each in found if each != _ASCII_ENCODING)


def _fits(text: str, encodings: tuple[str, ...]) -> bool:
    """Whether each letter is in one of the encodings, between which escape sequences switch."""
    return all(letter.isascii() or _in_one(letter, encodings) for letter in text)


def _in_one(letter: str, encodings: tuple[str, ...]) -> bool:
    for encoding in encodings:
        try:
            letter.encode(encoding)
        except UnicodeError:
            continue
        return True
    return False


def encoded(identifier: Dataset, transfer_syntax_uid: str) -> bytes:
    """Return the bytes of an identifier; raise Refusal if it cannot be written."""
    syntax = UID(transfer_syntax_uid)
    try:
        written = encode(identifier, syntax.is_implicit_VR, syntax.is_little_endian)
    except (*UNREADABLE, struct.error):
        written = None
    if written is None:
        raise Refusal("malformed", "The answer cannot be written.")
    return written
