"""From the bytes of a message to its fields (HL7 v2.5 chapter 2).

Nothing is split before it is asked for, so that a message costs what is read of it.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from peer.hl7.refused import (
    DATA_TYPE,
    REQUIRED_FIELD,
    SEGMENT_SEQUENCE,
    VALUE,
    Refused,
)

CODECS: Final = {
    "ASCII": "ascii",
    **{f"8859/{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    "ISO IR14": "iso2022_jp_ext",
    "ISO IR87": "iso2022_jp_ext",
    "ISO IR159": "iso2022_jp_ext",
    "GB 18030-2000": "gb18030",
    "KS X 1001": "euc_kr",
    "BIG-5": "big5",
    "UNICODE UTF-8": "utf-8",
}
"""Character sets of HL7 table 0211, and Python's names for them."""

SEGMENTS: Final = 20_000
"""Most segments of a message: a report has some thousand lines at most, each a segment."""

CONTROL_ID: Final = 199
"""Most characters of MSH-10 since v2.7; before that it had 20."""

HEADER: Final = 4096
"""Most bytes of an MSH segment: it has some hundred, and all of it is looked at before it is known
who sends."""

REPETITIONS: Final = 64
"""Repetitions that are read of a field: nobody has so many names or identifiers."""

NULL: Final = '""'
"""A value that is to be deleted; here it counts as none (HL7 v2.5 section 2.5.3)."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Delimiters:
    """MSH-1 and MSH-2."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str


@dataclass(frozen=True, slots=True)
class Value:
    """One repetition of a field, as it was sent."""

    raw: str
    delimiters: Delimiters
    codec: str

    def part(self, component: int, subcomponent: int = 1) -> str:
        """Return a component's subcomponent, both counted from 1, as text; '' if there is none."""
        found = _nth(self.raw, self.delimiters.component, component)
        return self._text(_nth(found, self.delimiters.subcomponent, subcomponent))

    @property
    def lines(self) -> str:
        """The whole value as text, components and all, with its line breaks."""
        return unescaped(self.raw, self.delimiters, self.codec)

    def _text(self, raw: str) -> str:
        if raw == NULL:
            return ""
        return _CONTROL.sub(" ", unescaped(raw, self.delimiters, self.codec)).strip()


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment, as it was sent."""

    raw: str
    delimiters: Delimiters
    codec: str

    @property
    def name(self) -> str:
        """Its three letters."""
        return self.raw[:3]

    def values(self, number: int) -> list[Value]:
        """Return the repetitions of a field that have content."""
        raw = _nth(self.raw, self.delimiters.field, number if self.name == "MSH" else number + 1)
        each = raw.split(self.delimiters.repetition, REPETITIONS)[:REPETITIONS]
        return [Value(one, self.delimiters, self.codec) for one in each if one not in {"", NULL}]

    def text(self, number: int, component: int = 1) -> str:
        """Return a component of the first repetition of a field, counted from 1; '' if absent."""
        return next((each.part(component) for each in self.values(number)), "")


@dataclass(frozen=True)
class Message:
    """A message whose header can be read."""

    segments: tuple[Segment, ...]

    @property
    def header(self) -> Segment:
        """MSH."""
        return self.segments[0]

    @cached_property
    def control_id(self) -> str:
        """MSH-10."""
        return self.header.text(10)

    @cached_property
    def code(self) -> str:
        """The message code, such as ADT (MSH-9.1)."""
        return self.header.text(9)

    @cached_property
    def event(self) -> str:
        """The trigger event, such as A08 (MSH-9.2); before v2.3 some say it in EVN-1 alone."""
        told = (each.text(1) for each in self.all("EVN"))
        return self.header.text(9, 2) or next(told, "")

    def first(self, name: str) -> Segment:
        """Return the first segment of this name; raise Refused if there is none."""
        for each in self.segments:
            if each.name == name:
                return each
        raise Refused("AE", SEGMENT_SEQUENCE, f"The message has no {name} segment.")

    def all(self, *names: str) -> list[Segment]:
        """Return the segments of these names, in their order."""
        return [each for each in self.segments if each.name in names]


def read_header(block: bytes) -> Segment:
    """Return MSH alone, before it is known in which characters it is; ASCII in it is right.

    Raises Refused if the bytes do not begin with one.
    """
    # One byte more than it may have: what follows is neither copied nor looked at.
    begun = block[: 2 * HEADER].lstrip(b"\r\n")[: HEADER + 1]
    line = re.split(rb"[\r\n]", begun, maxsplit=1)[0].decode("latin-1")
    if len(line) > HEADER:
        said = f"The MSH segment has more than {HEADER} bytes."
        raise Refused("AR", SEGMENT_SEQUENCE, said)
    return Segment(line, _delimiters(line), "latin-1")


def read_message(block: bytes, character_set: str) -> Message:
    """Return the message; `character_set`: of one that names none.  Raises Refused."""
    codec = codec_of(read_header(block), character_set)
    try:
        text = block.decode(codec)
    except UnicodeDecodeError:
        raise Refused(
            "AE",
            DATA_TYPE,
            "There are bytes that the character set of MSH-18 does not have. Name the right one, or"
            " set character_set of this sender for messages that name none.",
        ) from None
    lines = [line for line in re.split(r"[\r\n]+", text, maxsplit=SEGMENTS) if line.strip()]
    if len(lines) > SEGMENTS:
        raise Refused("AE", SEGMENT_SEQUENCE, f"The message has more than {SEGMENTS} segments.")
    delimiters = _delimiters(lines[0])
    message = Message(tuple(Segment(line, delimiters, codec) for line in lines))
    if not message.control_id or len(message.control_id) > CONTROL_ID:
        raise Refused(
            "AE", REQUIRED_FIELD, "The message has no control ID (MSH-10), or a long one."
        )
    return message


def codec_of(header: Segment, character_set: str) -> str:
    """Return Python's name for the characters of a message; raise Refused for unknown ones.

    Of several the last counts: by ISO 2022 it has the ones before within.
    """
    named = [each.part(1) for each in header.values(18)] or [character_set]
    for each in named:
        if each not in CODECS:
            raise Refused(
                "AR",
                VALUE,
                f"The character set of MSH-18 is none that is read here: {', '.join(CODECS)}.",
            )
    return CODECS[named[-1]]


def unescaped(raw: str, delimiters: Delimiters, codec: str = "utf-8") -> str:
    r"""Return `raw` with its escape sequences put into characters (HL7 v2.5 section 2.7).

    `\.br\` and its like are a line break, whatever number they have; what only changes the look of
    a text is left out, and so is a sequence that is none.
    """
    if delimiters.escape not in raw:
        return raw
    plain = {
        "F": delimiters.field,
        "S": delimiters.component,
        "T": delimiters.subcomponent,
        "R": delimiters.repetition,
        "E": delimiters.escape,
    }
    found = []
    for place, piece in enumerate(raw.split(delimiters.escape)):
        if place % 2 == 0:
            found.append(piece)
        elif piece in plain:
            found.append(plain[piece])
        elif piece.startswith((".br", ".sp", ".ce")):
            found.append("\n")
        elif piece.startswith("X"):
            found.append(_from_hexadecimal(piece[1:], codec))
    return "".join(found)


def escaped(text: str, delimiters: Delimiters) -> str:
    """Return `text` as it stands in a field; control characters become blanks."""
    names = {
        delimiters.escape: "E",
        delimiters.field: "F",
        delimiters.component: "S",
        delimiters.subcomponent: "T",
        delimiters.repetition: "R",
    }
    mark = delimiters.escape
    plain = _CONTROL.sub(" ", text)
    return "".join(f"{mark}{names[each]}{mark}" if each in names else each for each in plain)


def _from_hexadecimal(digits: str, codec: str) -> str:
    try:
        return bytes.fromhex(digits).decode(codec)
    except ValueError:
        return ""


def _delimiters(line: str) -> Delimiters:
    """Return what MSH-1 and MSH-2 say; raise Refused."""
    marks = line[4:8]
    all_five = line[3:8]
    if (
        not line.startswith("MSH")
        or len(set(all_five)) != len("|^~\\&")
        or not set(all_five) <= set(string.punctuation)
        # Since v2.7 a truncation character may follow.
        or line[8:9] not in {line[3], "#"}
    ):
        raise Refused("AR", SEGMENT_SEQUENCE, "This does not begin with an MSH segment of HL7 v2.")
    return Delimiters(line[3], *marks)


def _nth(text: str, delimiter: str, number: int) -> str:
    """Return part `number` of a text, counted from 1; '' if there are fewer."""
    parts = text.split(delimiter, number)
    return parts[number - 1] if number <= len(parts) else ""
