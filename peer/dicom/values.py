"""Single attributes of a data set as plain, bounded values; nothing in here raises for odd data."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from typing import Any, Final

from pydicom.charset import python_encoding
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from peer.dicom.part10 import UNREADABLE
from protocol.identifiers import PatientIdentifier

TEXT_CHARACTERS: Final = 1024
"""Longest text that is kept of an attribute: the VRs read here end at 324 (PN) or below; more is a
mistake of the sender."""

VALUES: Final = 32
"""Most values of one attribute and most items of one sequence that are looked at."""

NUMBER_MAX: Final = 2**31 - 1
"""Largest Integer String (PS3.5 section 6.2, VR IS)."""

_REPLACEMENT: Final = "\ufffd"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_DATE: Final = re.compile(r"(\d{4})[.\-/]?(\d{2})[.\-/]?(\d{2})")
_TIME: Final = re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")
_CHARACTER_SET: Final = 0x00080005


class Reader:
    """Reads attributes of one data set, and remembers whether any was damaged."""

    def __init__(self, data_set: Dataset) -> None:
        self._data_set = data_set
        self.text_is_damaged = not self._character_set_is_known()
        self.value_is_damaged = False

    def text(self, keyword: str) -> str:
        r"""Return the attribute's text without padding, several values joined by a backslash."""
        return "\\".join(self._texts(self._data_set, keyword))

    def uid(self, keyword: str) -> str:
        """Return the attribute without padding, otherwise exactly as it stands."""
        value = self._value(self._data_set, keyword)
        return "" if value is None else str(value).strip("\0 ")

    def names(self, keyword: str) -> tuple[str, ...]:
        """Return the person names of an attribute, each with all its component groups."""
        return tuple(name.rstrip("^= ") for name in self._texts(self._data_set, keyword) if name)

    def date(self, keyword: str) -> str:
        """Return YYYYMMDD, or '' for a date that is absent or not in the calendar."""
        found = _DATE.fullmatch(self.text(keyword))
        if found is None:
            return ""
        try:
            dt.date(int(found[1]), int(found[2]), int(found[3]))
        except ValueError:
            return ""
        return "".join(found.groups())

    def time(self, keyword: str) -> str:
        """Return HHMMSS.FFFFFF, cut where the instance cuts it, or ''."""
        text = self.text(keyword).replace(":", "")
        return text if _TIME.fullmatch(text) else ""

    def integer(self, keyword: str) -> int | None:
        """Return the first value of the attribute as a whole number, or None."""
        first = next(iter(self._texts(self._data_set, keyword)), "")
        try:
            number = int(float(first))
        except (ValueError, OverflowError):
            return None
        return number if abs(number) <= NUMBER_MAX else None

    def natural(self, keyword: str) -> int:
        """Return the attribute as a whole number, 0 if it is absent or negative."""
        return max(0, self.integer(keyword) or 0)

    def universal_id(self, keyword: str) -> str:
        """Return the Universal Entity ID of a sequence of issuer qualifiers, or ''."""
        for item in self._items(keyword):
            return "".join(self._texts(item, "UniversalEntityID")[:1])
        return ""

    def issuer(self, keyword: str) -> str:
        """Return the issuer that an HL7v2 Hierarchic Designator names (PS3.3 table 10-17)."""
        for item in self._items(keyword):
            for each in ("UniversalEntityID", "LocalNamespaceEntityID"):
                if texts := self._texts(item, each):
                    return texts[0]
        return ""

    def identifiers(self, sequence: str, retired: str) -> tuple[PatientIdentifier, ...]:
        """Return the other patient identifiers: of the sequence, and of the retired attribute."""
        found = []
        for item in self._items(sequence):
            inner = Reader(item)
            issuer = inner.universal_id("IssuerOfPatientIDQualifiersSequence") or inner.text(
                "IssuerOfPatientID"
            )
            found.append(PatientIdentifier(issuer, inner.text("PatientID")))
        found += [PatientIdentifier("", value) for value in self._texts(self._data_set, retired)]
        return tuple(dict.fromkeys(each for each in found if each.value))

    def _items(self, keyword: str) -> list[Dataset]:
        value = self._value(self._data_set, keyword)
        if value is None or not isinstance(value, Iterable):
            return []
        return [item for item in list(value)[:VALUES] if isinstance(item, Dataset)]

    def _texts(self, data_set: Dataset, keyword: str) -> list[str]:
        value = self._value(data_set, keyword)
        if value is None:
            return []
        values = list(value)[:VALUES] if isinstance(value, MultiValue) else [value]
        return [text for text in (self._clean(each) for each in values) if text]

    def _clean(self, value: object) -> str:
        try:
            text = str(value)
        except UNREADABLE:
            self.value_is_damaged = True
            return ""
        if _REPLACEMENT in text:
            self.text_is_damaged = True
        return _CONTROL.sub("", text).strip()[:TEXT_CHARACTERS]

    def _value(self, data_set: Dataset, keyword: str) -> Any:  # noqa: ANN401 - as its VR says
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise ValueError(f"{keyword} is no attribute of the standard")
        if tag not in data_set:
            return None
        try:
            value = data_set[tag].value
        except UNREADABLE:
            self.value_is_damaged = True
            value = None
        return value

    def _character_set_is_known(self) -> bool:
        if _CHARACTER_SET not in self._data_set:
            return True
        try:
            value = self._data_set[_CHARACTER_SET].value
        except UNREADABLE:
            return False
        terms = list(value) if isinstance(value, MultiValue) else [value or ""]
        return all(str(term).strip() in python_encoding for term in terms)
