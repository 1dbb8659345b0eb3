"""Patient identifiers: one spelling for each, and none for those that identify nobody."""

from __future__ import annotations

import re
from typing import Final

from protocol.identifiers import PatientIdentifier

SHORTEST_VALUE: Final = 5
"""Shorter values are bed numbers, typing exercises and the like."""

_OID: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
_URI: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):(//[^/?#]*)?(\S+)?")
_NOT_ALPHANUMERIC: Final = re.compile("[^A-Z0-9]")
_RUNS_OF_DIGITS: Final = ("01234567890123456789", "98765432109876543210")
_NOBODY: Final = frozenset(
    re.findall(
        "[A-Z]+",
        "UNKNOWN UNKNOWNPATIENT ANONYMOUS ANONYMIZED ANONYMISED ANONYM DEIDENTIFIED NOTAVAILABLE "
        "NOTKNOWN NOTAPPLICABLE PATIENT PATIENTID TRAUMA EMERGENCY PHANTOM QCPHANTOM TESTPATIENT "
        "DUMMY TEMPORARY",
    )
)


def normalise(identifier: PatientIdentifier) -> PatientIdentifier | None:
    """Return the one spelling of `identifier`, or None if it does not tell people apart.

    The issuer must be an OID (returned as urn:oid:...) or a URI; a local name such as "HOSPITAL"
    means something else at every facility.  The value becomes upper-case letters and digits
    without leading zeros, and must then have five characters or more and not be a placeholder.
    """
    issuer = _issuer(identifier.issuer.strip())
    value = _NOT_ALPHANUMERIC.sub("", identifier.value.upper()).lstrip("0")
    if not issuer or len(value) < SHORTEST_VALUE or _identifies_nobody(value):
        return None
    return PatientIdentifier(issuer=issuer, value=value)


def normalised(identifiers: tuple[PatientIdentifier, ...]) -> tuple[PatientIdentifier, ...]:
    """Return the usable ones of `identifiers`, each once, in the order given."""
    candidates = map(normalise, identifiers)
    return tuple(dict.fromkeys(found for found in candidates if found is not None))


def _issuer(text: str) -> str:
    if _OID.fullmatch(text):
        return f"urn:oid:{text}"
    match = _URI.fullmatch(text)
    if match is None or not (text.isascii() and text.isprintable()):
        return ""
    scheme, authority, path = (part or "" for part in match.groups())
    if not authority and not path:
        return ""
    if scheme.lower() == "urn":
        return f"urn:{path.lower()}"
    return f"{scheme.lower()}:{authority.lower()}{path.rstrip('/')}"


def _identifies_nobody(value: str) -> bool:
    return (
        len(set(value)) == 1
        or value in _NOBODY
        or any(value in digits for digits in _RUNS_OF_DIGITS)
    )
