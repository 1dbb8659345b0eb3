"""What an operator can set: DATA/openpriors.toml, overridden by the environment.

A section of the file is a class here, a key of it a field, whose description is its documentation:
docs/reference/configuration.md and the file that `init` writes are made from them.  A secret is
never a value, always the path of a file that holds it.
"""

from __future__ import annotations

from peer.config.dicom import DicomSettings, KnownAe
from peer.config.doors import (
    DicomWeb,
    Federation,
    Link,
    Local,
    Pairing,
)
from peer.config.files import FILE_NAME, check, load, write_default
from peer.config.hl7 import Hl7Sender, Hl7Settings, PriorsRule
from peer.config.reference import reference
from peer.config.searching import Search
from peer.config.settings import (
    Audit,
    Facility,
    Index,
    Ingest,
    Journal,
    Keys,
    Lists,
    Notify,
    People,
    Report,
    Retention,
    Settings,
)
from peer.config.store import Store
from peer.config.transfer import RateLimit, Transfer

__all__ = [
    "FILE_NAME",
    "Audit",
    "DicomSettings",
    "DicomWeb",
    "Facility",
    "Federation",
    "Hl7Sender",
    "Hl7Settings",
    "Index",
    "Ingest",
    "Journal",
    "Keys",
    "KnownAe",
    "Link",
    "Lists",
    "Local",
    "Notify",
    "Pairing",
    "People",
    "PriorsRule",
    "RateLimit",
    "Report",
    "Retention",
    "Search",
    "Settings",
    "Store",
    "Transfer",
    "check",
    "load",
    "reference",
    "write_default",
]
